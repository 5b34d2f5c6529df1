import { seeAll } from "./scenarios.mjs";

export default {
  async fetch(request, env) {
    return Response.json(await seeAll(env.AI));
  },
};
