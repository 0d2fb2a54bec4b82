import { createDatabase } from "../../../../test/support/postgres.ts";
import { describeStore } from "./contract.ts";
import { openStore } from "./store.ts";

const url = await createDatabase();
describeStore("PostgreSQL", () => openStore({ kind: "postgres", url }));
