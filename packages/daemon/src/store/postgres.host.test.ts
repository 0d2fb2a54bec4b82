import pg from "pg";
import { describe, expect, test } from "vitest";
import { createDatabase } from "../../../../test/support/postgres.ts";
import { StoreError } from "./errors.ts";
import { migrations } from "./migrations/index.ts";
import { wakeAfter } from "./pending.ts";
import { writeSetting } from "./settings.ts";
import { openStore, type Store } from "./store.ts";

describe("a store on PostgreSQL", () => {
  test("is made by whichever of several daemons comes first", async () => {
    const url = await createDatabase({ empty: true });
    const stores = await Promise.all(Array.from({ length: 4 }, () => openStore({ kind: "postgres", url })));
    for (const store of stores) {
      expect(await store.queries.selectFrom("migration").selectAll().execute()).toHaveLength(migrations.length);
      await store.close();
    }
  });

  test("of a newer version is refused, unchanged; so is one that cannot be reached", async () => {
    const url = await createDatabase();
    await execute(url, "insert into migration (name, checksum, applied_at) values ('9999-future', 'x', 1)");
    const refusal = await openStore({ kind: "postgres", url }).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(StoreError);
    expect(String(refusal)).toMatch(/newer version of berthd \(it has 9999-future/);
    const nowhere = await openStore({ kind: "postgres", url: "postgres://berth:secret@127.0.0.1:1/none" }).catch(
      String,
    );
    expect(nowhere).toMatch(/The store 127.0.0.1:1\/none cannot be opened/);
    expect(nowhere).not.toContain("secret");
  });

  test("goes on after its connections were broken, wake-ups too", async () => {
    const url = await createDatabase();
    const errors: Error[] = [];
    const store = await openStore({ kind: "postgres", url }, { onError: (error) => errors.push(error) });
    const other = await openStore({ kind: "postgres", url });
    await untilWoken(other, store);
    const database = new URL(url).pathname.slice(1);
    await execute(
      url,
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}' and pid <> pg_backend_pid()`,
    );
    await untilWoken(other, store);
    await writeSetting(store.queries, "a", 1);
    expect(errors.length).toBeGreaterThan(0);
    await Promise.all([store.close(), other.close()]);
  });
});

async function execute(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(statement);
  await client.end();
}

/** Rings on one store until the other hears it before it would have looked by itself. */
async function untilWoken(ringing: Store, hearing: Store): Promise<void> {
  using subscription = hearing.wake.subscribe("bell");
  for (;;) {
    const began = performance.now();
    const heard = subscription.wait(new AbortController().signal);
    // A connection that was broken is found to be so by its first use.
    await ringing.transaction(async (tx) => wakeAfter(tx, "bell")).catch(() => undefined);
    await heard;
    if (performance.now() - began < 800) return;
  }
}
