/** Latest frame wins: while one is worked on, only the newest of those that come in is kept. */
export class Latest<T> {
  private waiting: { value: T } | null = null;
  private busy = false;
  /** Frames that gave way to a newer one. */
  dropped = 0;

  constructor(
    private readonly work: (value: T) => Promise<void>,
    private readonly release: (value: T) => void = () => {},
    private readonly failed: (error: unknown) => void = () => {},
  ) {}

  offer(value: T): void {
    if (this.busy) {
      if (this.waiting) {
        this.dropped++;
        this.release(this.waiting.value);
      }
      this.waiting = { value };
      return;
    }
    this.busy = true;
    void this.run(value);
  }

  /** Forget the frame that waits. */
  clear(): void {
    if (this.waiting) this.release(this.waiting.value);
    this.waiting = null;
  }

  private async run(first: T): Promise<void> {
    let next: { value: T } | null = { value: first };
    while (next) {
      try {
        await this.work(next.value);
      } catch (error) {
        this.failed(error);
      }
      next = this.waiting;
      this.waiting = null;
    }
    this.busy = false;
  }
}
