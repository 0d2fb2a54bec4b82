import { createDatabase } from "../../../../test/support/postgres.ts";
import { openStore } from "../store/store.ts";
import { describeEngine } from "./contract.ts";

const url = await createDatabase();
describeEngine("PostgreSQL", () => openStore({ kind: "postgres", url }));
