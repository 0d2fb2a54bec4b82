import type { StartConfig } from "@berth/api";
import type { ImageConfig } from "./manifest.ts";

/** How an image's process is started, from its OCI configuration. */
export function toStartConfig({ config }: ImageConfig): StartConfig {
  return {
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    env: config?.Env ?? [],
    user: config?.User ?? "",
    workingDir: config?.WorkingDir ?? "",
    exposedPorts: Object.keys(config?.ExposedPorts ?? {}).sort(),
    stopSignal: config?.StopSignal ?? "",
    volumes: Object.keys(config?.Volumes ?? {}).sort(),
    labels: config?.Labels ?? {},
  };
}
