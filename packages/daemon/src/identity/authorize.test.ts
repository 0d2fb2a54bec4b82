import { actions, type Resource, resources, roles } from "@berth/api";
import { expect, test } from "vitest";
import { authorize, type Caller, mayGrant } from "./authorize.ts";

const nobody: Caller = {
  id: "t-0123456789abcdef0",
  name: "ci",
  session: null,
  admin: false,
  roles: new Map(),
  project: null,
  scopes: null,
  expiresAt: null,
};
const admin = { ...nobody, admin: true };

const may = (...args: Parameters<typeof authorize>) => {
  try {
    authorize(...args);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: "forbidden" });
    return false;
  }
};

test("who administers the whole system may do everything in every project, and nobody without a role anything", () => {
  for (const action of actions)
    for (const resource of resources) {
      expect(may(admin, action, resource, "any")).toBe(true);
      for (const project of ["any", "constructor", "__proto__"])
        expect(may(nobody, action, resource, project)).toBe(resource === "session");
    }
});

test("each role may all that the one before may, in its own project only", () => {
  const counts = roles.map((role) => {
    const caller = { ...nobody, roles: new Map([["shop", role]]) };
    const pairs = actions.flatMap((action) => resources.map((resource) => [action, resource] as const));
    for (const [action, resource] of pairs)
      if (resource !== "node" && resource !== "session") expect(may(caller, action, resource, "default")).toBe(false);
    return pairs.filter((pair) => pair[1] !== "session" && may(caller, ...pair, "shop")).map(String);
  });
  const [viewer = [], operator = [], projectAdmin = []] = counts;
  expect(viewer.every((pair) => /^(list|read),/.test(pair))).toBe(true);
  expect(operator).toEqual(expect.arrayContaining(viewer));
  expect(projectAdmin).toEqual(expect.arrayContaining(operator));
  expect(projectAdmin).toEqual(expect.arrayContaining(["create,token"]));
  expect(operator.filter((pair) => pair.endsWith("token"))).toEqual([]);
  for (const pair of ["create,project", "delete,project", "list,user", "update,user", "use,system"])
    expect(projectAdmin).not.toContain(pair);
});

test("scopes narrow what a role may, and never widen it", () => {
  const limited = { ...admin, scopes: ["instance", "image:read"] };
  const allowed = (resource: Resource) => actions.filter((action) => may(limited, action, resource, "shop"));
  expect(allowed("instance")).toEqual([...actions]);
  expect(allowed("image")).toEqual(["list", "read"]);
  for (const resource of resources.filter((one) => !["instance", "image", "session"].includes(one)))
    expect(allowed(resource)).toEqual([]);
  const viewer = { ...nobody, roles: new Map([["shop", "viewer" as const]]), scopes: ["instance"] };
  expect(may(viewer, "read", "instance", "shop")).toBe(true);
  expect(may(viewer, "delete", "instance", "shop")).toBe(false);
});

test("nobody grants scopes beyond his own", () => {
  expect(mayGrant(null, null)).toBe(true);
  expect(mayGrant(null, ["image"])).toBe(true);
  expect(mayGrant(["image"], null)).toBe(false);
  expect(mayGrant(["image", "token"], ["image:read", "token"])).toBe(true);
  expect(mayGrant(["image:read"], ["image"])).toBe(false);
  expect(mayGrant(["image:read"], ["instance:read"])).toBe(false);
});
