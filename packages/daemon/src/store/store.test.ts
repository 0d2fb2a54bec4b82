import { join } from "node:path";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { describeStore } from "./contract.ts";
import { openStore } from "./store.ts";

const folder = await scratchDirectory("store");
describeStore("SQLite", () => openStore({ kind: "sqlite", path: join(folder, "berth.db") }));
