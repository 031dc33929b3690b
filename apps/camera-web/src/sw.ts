/**
 * The service worker. Addresses below assets, runtime and bundles change with their content and are answered from the
 * cache; the page and the listing are asked for first and taken from the cache where no server answers in time.
 */

interface Extendable extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetching extends Extendable {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Message extends Extendable {
  data: unknown;
  ports: readonly MessagePort[];
}
interface Scope {
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
  addEventListener(kind: "install" | "activate", heard: (event: Extendable) => void): void;
  addEventListener(kind: "fetch", heard: (event: Fetching) => void): void;
  addEventListener(kind: "message", heard: (event: Message) => void): void;
}

const scope = self as unknown as Scope;
const CACHE = "edge-unet-camera";
const LISTING = "/files.json";
const KEPT = /^\/(assets|runtime|bundles)\//;
/** 26 MB that only a browser with WebGPU or WebNN asks for: kept when it did. */
const LARGE = /\.(asyncify|jsep|jspi)\./;
const PATIENCE_MS = 3000;

async function sync(): Promise<string> {
  const cache = await caches.open(CACHE);
  const answer = await fetch(LISTING, { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return (await cache.match("/")) ? "yes, and the server is not reached now" : "not yet";
  const { files } = (await answer.clone().json()) as { files: string[] };
  const pages = ["/", ...files.filter((file) => !KEPT.test(file))];
  for (const file of [...files.filter((one) => KEPT.test(one)), ...pages]) {  // a page never before its parts
    if (LARGE.test(file) || (KEPT.test(file) && (await cache.match(file)))) continue;
    const fresh = await fetch(file, { cache: KEPT.test(file) ? "default" : "no-store" });
    if (fresh.ok) await cache.put(file, fresh);
  }
  await cache.put(LISTING, answer);
  const wanted = new Set(["/", LISTING, ...files]);
  for (const { url } of await cache.keys()) {
    const { pathname } = new URL(url);
    if (!wanted.has(pathname)) await cache.delete(url);
  }
  return "yes, everything is kept on this device";
}

async function answered(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const { pathname } = new URL(request.url);
  const kept = await cache.match(pathname);
  if (KEPT.test(pathname)) {
    if (kept) return kept;
    const fresh = await fetch(request);
    if (fresh.ok) await cache.put(pathname, fresh.clone());
    return fresh;
  }
  if (!kept) return fetch(request);
  const late = new Promise<Response>((resolve) => setTimeout(() => resolve(kept), PATIENCE_MS));
  return Promise.race([fetch(request).catch(() => kept), late]);
}

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("message", (event) => {
  if (event.data !== "sync") return;
  const answer = (text: string) => event.ports[0].postMessage(text);
  event.waitUntil(sync().catch(() => "not yet").then(answer));
});
scope.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === location.origin) event.respondWith(answered(event.request));
});
