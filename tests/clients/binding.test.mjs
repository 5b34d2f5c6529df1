// Runs inside the runtime, under Vitest: what the binding gives is printed for the tests in Python to judge.
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { seeAll } from "./scenarios.mjs";

test("the binding answers", { timeout: 100_000 }, async () => {
  const seen = await seeAll(env.AI);
  expect(Object.keys(seen)).toContain("text");
  console.log(`SEEN ${JSON.stringify(seen)} SEEN`);
});
