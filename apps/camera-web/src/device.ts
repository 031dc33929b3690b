/** What the browser tells about the device it runs on. null: it does not say. */

export interface DeviceFacts {
  userAgent: string;
  os: string | null;
  /** Instruction set in the kernel's words. */
  machine: string | null;
  model: string | null;
  browser: Record<string, string>;
  cores: number | null;
  isolated: boolean;
  power: string | null;
}

interface Hints {
  platform?: string;
  platformVersion?: string;
  architecture?: string;
  bitness?: string;
  model?: string;
  mobile?: boolean;
  fullVersionList?: { brand: string; version: string }[];
}

interface Told extends Navigator {
  userAgentData?: { getHighEntropyValues(names: string[]): Promise<Hints> };
  getBattery?(): Promise<{ charging: boolean }>;
}

const HINTS = ["platform", "platformVersion", "architecture", "bitness", "model", "mobile", "fullVersionList"];

export async function deviceFacts(): Promise<DeviceFacts> {
  const told = navigator as Told;
  const hints: Hints = (await told.userAgentData?.getHighEntropyValues(HINTS).catch(() => null)) ?? {};
  const battery = hints.mobile ? await told.getBattery?.().catch(() => null) : null;
  return {
    userAgent: told.userAgent,
    os: [hints.platform, hints.platformVersion].filter(Boolean).join(" ") || null,
    machine: machineOf(hints.architecture, hints.bitness),
    model: hints.model || null,
    browser: browserOf(hints.fullVersionList ?? []),
    cores: told.hardwareConcurrency ?? null,
    isolated: globalThis.crossOriginIsolated === true,
    power: battery ? (battery.charging ? "charging" : "battery") : null,
  };
}

const MACHINES: Record<string, string> = {
  "x86 64": "x86_64", "x86 32": "i686", "arm 64": "aarch64", "arm 32": "armv7l",
};

export function machineOf(architecture?: string, bitness?: string): string | null {
  return MACHINES[`${architecture} ${bitness}`] ?? null;
}

/** Name -> version, without the brand that browsers make up so that nobody relies on the list. */
export function browserOf(brands: readonly { brand: string; version: string }[]): Record<string, string> {
  const real = brands.filter(({ brand }) => !/not.?a.?brand|not.*brand/i.test(brand));
  return Object.fromEntries(real.map(({ brand, version }) => [brand, version]));
}
