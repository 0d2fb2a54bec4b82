import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { KitDescription } from "../../packages/daemon/src/core/descriptions.ts";
import { writeCpio } from "../../packages/daemon/src/guest/kit/cpio.ts";
import { findKit } from "../../packages/daemon/src/guest/kit/find-kit.ts";
import type { Host } from "../../packages/daemon/src/host/host.ts";

/** Makes the guest's devices, loads the kit's modules and leaves `say`, which writes a line to the control port. */
const prelude = `#!/bin/busybox sh
/bin/busybox mkdir -p /bin /dev /proc /sys
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
while read -r module; do insmod "$module"; done < /etc/modules
while [ ! -e /dev/hvc1 ]; do :; done
stty -F /dev/hvc1 raw -echo
exec > /dev/hvc0 2>&1 < /dev/hvc0
say() { echo "$*" > /dev/hvc1; }
off() { echo o > /proc/sysrq-trigger; sleep 60; }
`;

/**
 * A guest whose whole software is one busybox script: the kit's kernel and modules with another init, laid over the kit's initramfs (the kernel
 * unpacks several archives one after the other, the later one's files win). Its parts are put into the folder and may be read by anyone.
 */
export async function tinyGuest(host: Host, folder: string, script: string): Promise<KitDescription> {
  const kitRoot = process.env.BERTH_KIT_DIR ?? join(import.meta.dirname, "../../.tools/kit");
  const kit = await findKit(host, kitRoot);
  const busybox = await host.find("busybox");
  if (!kit || !busybox) throw new Error("The guest kit is not built: run npm test, or node tools/build-kit.ts");
  const overlay = writeCpio([
    { type: "directory", path: "bin", mode: 0o755 },
    { type: "file", path: "bin/busybox", mode: 0o755, content: await buffer(host.files.readStream(busybox)) },
    { type: "file", path: "init", mode: 0o755, content: Buffer.from(prelude + script) },
  ]);
  const base = await buffer(host.files.readStream(kit.initrdPath));
  // An archive begins at a multiple of four bytes.
  const gap = Buffer.alloc((4 - (base.length % 4)) % 4);
  const initrdPath = join(folder, "tiny.img");
  await host.files.writeAtomic(initrdPath, Buffer.concat([base, gap, overlay]), { mode: 0o644 });
  return { ...kit, initrdPath };
}
