/** The camera: opening it, which there are, what went wrong in words, the lamp. */

import type { Card } from "./view";

export interface Camera {
  stream: MediaStream;
  deviceId: string | null;
  /** The picture of a camera that looks at its user is shown as in a mirror. */
  mirror: boolean;
}

/** What is asked of the camera: enough for any model here, little enough for a steady rate. */
const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };

/** Open a camera, by default the one at the back. Rejects with the browser's own DOMException. */
export async function openCamera(deviceId: string | null): Promise<Camera> {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("no secure origin", "SecurityError");
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: { ideal: "environment" } };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...WANTED, ...which } });
  const settings = stream.getVideoTracks()[0].getSettings();
  return { stream, deviceId: settings.deviceId ?? null, mirror: settings.facingMode === "user" };
}

/** The cameras of this device; their names are known once one was allowed. */
export async function cameras(): Promise<MediaDeviceInfo[]> {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput");
}

/** The next camera after this one; null where there is only one. */
export function nextCamera(devices: readonly { deviceId: string }[], current: string | null): string | null {
  if (devices.length < 2) return null;
  const at = devices.findIndex(({ deviceId }) => deviceId === current);
  return devices[(at + 1) % devices.length].deviceId;
}

/** Why there is no picture, and what to do about it. */
export function cameraCard(error: unknown): Omit<Card, "button"> {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") {
    return {
      title: "The camera is blocked",
      text: "This page may not use the camera. Pictures never leave this device.",
      steps: [
        "Tap the lock or the sliders beside the address.",
        "Set Camera to Allow. On an iPhone: aA, then Website Settings.",
        "Then try again.",
      ],
    };
  }
  if (name === "NotFoundError" || name === "OverconstrainedError") {
    return { title: "No camera found", text: "Connect a camera or choose another one, then try again." };
  }
  if (name === "NotReadableError" || name === "AbortError") {
    return { title: "The camera is busy", text: "Another app or page is using it. Close that one, then try again." };
  }
  if (name === "SecurityError") {
    return {
      title: "This address is not secure",
      text: "Browsers give the camera only to https:// pages and to localhost.",
      steps: ["Open the https:// address that edge-unet camera --web printed."],
    };
  }
  return { title: "The camera did not start", text: error instanceof Error ? error.message : String(error) };
}

type Lamp = MediaTrackCapabilities & { torch?: boolean };

/** Whether the phone's lamp can be switched. */
export function hasLamp(stream: MediaStream): boolean {
  const track = stream.getVideoTracks()[0];
  return Boolean((track.getCapabilities?.() as Lamp | undefined)?.torch);
}

export async function setLamp(stream: MediaStream, on: boolean): Promise<void> {
  await stream.getVideoTracks()[0].applyConstraints({ advanced: [{ torch: on } as MediaTrackConstraintSet] });
}
