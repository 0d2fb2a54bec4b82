import { join } from "node:path";
import { buildKit } from "../packages/daemon/src/guest/kit/build-kit.ts";
import { localHost } from "../packages/daemon/src/host/local.ts";

// Makes the guest kit where berthd looks for it; prints the build's name. Nothing is done when it is already there.
const kitRoot = process.env.BERTH_KIT_DIR ?? join(import.meta.dirname, "..", ".tools", "kit");
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
const kit = await buildKit(localHost(), { kitRoot, signal: stop.signal, log: (line) => console.error(line) });
console.log(kit.buildId);
