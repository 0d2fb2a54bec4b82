import { join } from "node:path";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { openStore } from "../store/store.ts";
import { describeEngine } from "./contract.ts";

const folder = await scratchDirectory("engine");
describeEngine("SQLite", () => openStore({ kind: "sqlite", path: join(folder, "berth.db") }));
