import type { Action, Resource } from "@berth/api";
import { expect, test } from "vitest";
import { authorize, type Caller } from "./authorize.ts";

const admin: Caller = { tokenId: "t-0123456789abcdef0", name: "admin", role: "admin", project: null };
const actions: Action[] = ["list", "read", "create", "update", "delete", "use"];
const resources: Resource[] = ["instance", "image", "operation", "event", "node", "system"];

test("an admin may do everything in every project", () => {
  for (const action of actions) for (const resource of resources) authorize(admin, action, resource, "any");
});

test("a token for one project opens no other", () => {
  const confined = { ...admin, project: "shop" };
  authorize(confined, "read", "instance", "shop");
  expect(() => authorize(confined, "read", "instance", "default")).toThrow(/for the project shop/);
  authorize(confined, "read", "node", "default");
});
