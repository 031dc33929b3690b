/** Offline and installed: the service worker that keeps every file, and the browser's offer to install. */

import { $ } from "./dom";

interface InstallOffer extends Event {
  prompt(): Promise<void>;
}

/** Register the service worker and have it fetch everything. Resolves with what to tell the user. */
export async function keepOffline(): Promise<string> {
  if (!("serviceWorker" in navigator)) return "no: this browser has no service workers on this address";
  try {
    await navigator.serviceWorker.register("/sw.js");
    const ready = await navigator.serviceWorker.ready;
    return await synced(ready.active!);
  } catch (error) {
    const refused = error instanceof DOMException && error.name === "SecurityError";
    return refused && location.protocol === "https:"
      ? "no: the browser keeps pages offline only under a certificate that this device trusts"
      : `no: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function synced(worker: ServiceWorker): Promise<string> {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = ({ data }) => resolve(String(data));
    worker.postMessage("sync", [channel.port2]);
  });
}

/** Show the install button once the browser offers it. */
export function offerInstall(): void {
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    const button = $("install");
    button.hidden = false;
    button.onclick = async () => {
      await (event as InstallOffer).prompt();
      button.hidden = true;
    };
  });
}
