import { BerthError, type StartConfig } from "@berth/api";
import { signalNumber } from "../host/signal-number.ts";
import type { ImageConfig } from "./manifest.ts";

/** How an image's process is started, from its OCI configuration. Throws BerthError `unsupported_image` for a stop signal that is none. */
export function toStartConfig({ config }: ImageConfig): StartConfig {
  const stopSignal = config?.StopSignal ?? "";
  if (signalNumber(stopSignal) === undefined)
    throw new BerthError("unsupported_image", `Its STOPSIGNAL ${JSON.stringify(stopSignal)} is no signal.`);
  return {
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    env: config?.Env ?? [],
    user: config?.User ?? "",
    workingDir: config?.WorkingDir ?? "",
    exposedPorts: Object.keys(config?.ExposedPorts ?? {}).sort(),
    stopSignal,
    volumes: Object.keys(config?.Volumes ?? {}).sort(),
    labels: config?.Labels ?? {},
  };
}
