// The bindings of a project for a program in Node: argv is the configuration and the environment.
import { getPlatformProxy } from "wrangler";
import { seeAll } from "./scenarios.mjs";

const [configPath, environment] = process.argv.slice(2);
const { env, dispose } = await getPlatformProxy({ configPath, environment, persist: false });
try {
  console.log(JSON.stringify(await seeAll(env.AI)));
} finally {
  await dispose();
}
