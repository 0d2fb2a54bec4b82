import { isId, Node } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { readJson, toTimestamp } from "./json.ts";
import type { NodeTable } from "./schema.ts";
import type { Queries } from "./store.ts";

const NodeFacts = Node.omit({ id: true, name: true, startedAt: true });

function toNode(row: Selectable<NodeTable>): Node {
  return {
    ...readJson(NodeFacts, row.facts, "node.facts"),
    id: row.id,
    name: row.name,
    startedAt: toTimestamp(row.started_at),
  };
}

/** Writes what a node is and has, in place of what was known of it. */
export async function saveNode(queries: Queries, node: Node): Promise<void> {
  const { id, name, startedAt, ...facts } = node;
  const content = {
    name,
    facts: JSON.stringify(facts),
    started_at: Date.parse(startedAt),
    seen_at: sql<number>`berth_now()`,
  };
  await queries
    .insertInto("node")
    .values({ id, ...content })
    .onConflict((conflict) => conflict.column("id").doUpdateSet(content))
    .execute();
}

/** The node with this id or name; undefined when there is none. */
export async function findNode(queries: Queries, idOrName: string): Promise<Node | undefined> {
  const row = await queries
    .selectFrom("node")
    .selectAll()
    .where(isId(idOrName) ? "id" : "name", "=", idOrName)
    .executeTakeFirst();
  return row && toNode(row);
}

/** All nodes, by name. */
export async function listNodes(queries: Queries): Promise<Node[]> {
  return (await queries.selectFrom("node").selectAll().orderBy("name").execute()).map(toNode);
}
