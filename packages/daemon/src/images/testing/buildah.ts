import { join } from "node:path";
import type { Host } from "../../host/host.ts";

/** buildah with storage of its own, for making the images that tests pull. */
export function buildahIn(host: Host, directory: string) {
  const storage = ["--root", join(directory, "root"), "--runroot", join(directory, "run"), "--storage-driver", "vfs"];
  return {
    run: async (...args: readonly string[]) =>
      (await host.run("buildah", [...storage, ...args], { env: { HOME: directory } })).stdout.trim(),
    /** The image as skopeo names it. */
    stored: (name: string) => `containers-storage:[vfs@${join(directory, "root")}+${join(directory, "run")}]${name}`,
  };
}
