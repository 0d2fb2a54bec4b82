import { join } from "node:path";
import { buildKit } from "../../packages/daemon/src/guest/kit/build-kit.ts";
import { findKit } from "../../packages/daemon/src/guest/kit/find-kit.ts";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { phase } from "../setup/progress.mjs";
import { repositoryRoot } from "./parts.ts";

/** Builds the kernel and initramfs that guests start with, unless there is one of this checkout's sources; tools/build-kit.ts also looks for a newer kernel. */
export async function ensureGuestKit(): Promise<void> {
  const kitRoot = process.env.BERTH_KIT_DIR ?? join(repositoryRoot, ".tools/kit");
  const host = localHost();
  if (await findKit(host, kitRoot)) return;
  const signal = new AbortController().signal;
  await phase("the guest kit: kernel and initramfs", () => buildKit(host, { kitRoot, signal, log: () => undefined }));
}
