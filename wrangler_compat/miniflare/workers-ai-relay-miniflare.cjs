"use strict";

// A Miniflare plugin: the runtime's own `Ai` class, with its requests sent to a workers-ai-relay. Nothing else is
// contacted, no account and no login are needed. `relay wrangler init` copies this file into a project and says what
// to put into its wrangler configuration; there, `dev.options` may hold:
//
//   base_url    the relay; else CLOUDFLARE_API_BASE_URL, else http://127.0.0.1:8790/client/v4
//   account_id  any account id; else CLOUDFLARE_ACCOUNT_ID, else "local"
//   token       what `relay token` prints; else CLOUDFLARE_API_TOKEN. Keep it out of files that you commit.
//
// Miniflare 4 hands a plugin the list of its bindings, Miniflare 5 the options of the whole Worker.

const { createHash } = require("node:crypto");

const PLUGIN = "relay-ai";
const AI_MODULE = "cloudflare-internal:ai-api";

const DEFAULTS = { base_url: "http://127.0.0.1:8790/client/v4", account_id: "local" };
const VARIABLES = {
  base_url: "CLOUDFLARE_API_BASE_URL",
  account_id: "CLOUDFLARE_ACCOUNT_ID",
  token: "CLOUDFLARE_API_TOKEN",
};

// Runs inside the runtime and takes what the `Ai` class sends to https://workers-binding.ai. The relay itself gives up
// on a model earlier than this; the limit is for addresses where nothing answers at all.
const WORKER = `
const LIMIT = 180_000; // milliseconds until the answer begins

function failure(status, text) {
  // Both forms in which the Ai class and its callers look for an error.
  const body = {
    internalCode: status, name: "InferenceUpstreamError", description: text, message: text,
    errors: [{ code: status, message: text }], messages: [], success: false, result: {},
  };
  return Response.json(body, { status });
}

export default {
  async fetch(request, env) {
    const headers = new Headers(request.headers);
    headers.set("authorization", "Bearer " + env.TOKEN);
    headers.set("x-forwarded", request.url);
    const { method, body } = request;
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), LIMIT);
    try {
      return await fetch(env.ENDPOINT, { method, headers, body, signal: patience.signal, redirect: "manual" });
    } catch {
      if (patience.signal.aborted) return failure(504, "The relay at " + env.BASE_URL + " does not answer.");
      return failure(503, "The relay at " + env.BASE_URL + " cannot be reached. Start it with: relay serve");
    } finally {
      clearTimeout(timer);
    }
  },
};
`;

/** The bindings of this plugin, as `[name, options]`, in the shape of either Miniflare. */
function bindingsOf(options) {
  if (Array.isArray(options)) return options.map((binding) => [binding.name, binding.options ?? {}]);
  return Object.entries(options?.config?.env ?? {})
    .filter(([, binding]) => binding?.dev?.plugin?.name === PLUGIN)
    .map(([name, binding]) => [name, binding.dev.options ?? {}]);
}

/**
 * Where the requests of one binding go. Throws an Error that says what to change; it holds no token.
 * Wrangler adds names of its own to the options, so others than ours are passed by.
 */
function targetOf(name, options) {
  const value = (key) => options[key] || process.env[VARIABLES[key]] || DEFAULTS[key];
  const [baseUrl, accountId, token] = [value("base_url"), value("account_id"), value("token")];
  if (!token) {
    throw new Error(
      `Binding ${name}: there is no token for the relay. Put the text that "relay token" prints into the environment ` +
        `variable ${VARIABLES.token}, for example: ${VARIABLES.token}="$(relay token)" npx wrangler dev --env relay`,
    );
  }
  if (!URL.canParse(baseUrl) || !/^https?:$/.test(new URL(baseUrl).protocol)) {
    throw new Error(`Binding ${name}: base_url must be the URL of a relay, such as ${DEFAULTS.base_url}.`);
  }
  if (!/^[A-Za-z0-9_-]+$/.test(accountId)) {
    throw new Error(`Binding ${name}: account_id may hold letters, digits, - and _ only.`);
  }
  const base = String(baseUrl).replace(/\/+$/, "");
  return { base, endpoint: `${base}/accounts/${accountId}/ai/run/proxy`, token: String(token) };
}

/** Two Workers may have a binding of one name with different options: each gets a service of its own. */
function serviceOf(name, { endpoint, token }) {
  const digest = createHash("sha256").update(JSON.stringify([endpoint, token])).digest("hex");
  return `${PLUGIN}:${name}:${digest.slice(0, 8)}`;
}

/** `getPlatformProxy` knows its bindings by `instanceof`, so the class must be that of the Miniflare which asks. */
function proxyNodeBinding() {
  const loaded = Object.entries(require.cache)
    .filter(([path, module]) => /[\\/]miniflare[\\/]dist[\\/]/.test(path) && module?.exports?.ProxyNodeBinding)
    .map(([path, module]) => ({ path, ProxyNodeBinding: module.exports.ProxyNodeBinding }));
  const { stack = "" } = new Error();
  const found = loaded.find(({ path }) => stack.includes(path)) ?? loaded.at(-1) ?? require("miniflare");
  return found.ProxyNodeBinding;
}

const plugin = {
  bindingTypeDescription: "AI (workers-ai-relay)",

  async getBindings(options) {
    return bindingsOf(options).map(([name, given]) => {
      const fetcher = { name: "fetcher", service: { name: serviceOf(name, targetOf(name, given)) } };
      return { name, wrapped: { moduleName: AI_MODULE, innerBindings: [fetcher] } };
    });
  },

  getNodeBindings(options) {
    const names = bindingsOf(options).map(([name]) => name);
    if (names.length === 0) return {};
    const ProxyNodeBinding = proxyNodeBinding();
    return Object.fromEntries(names.map((name) => [name, new ProxyNodeBinding()]));
  },

  async getServices({ options }) {
    return bindingsOf(options).map(([name, given]) => {
      const target = targetOf(name, given);
      return {
        name: serviceOf(name, target),
        worker: {
          compatibilityDate: "2025-01-01",
          modules: [{ name: "workers-ai-relay.js", esModule: WORKER }],
          bindings: [
            { name: "BASE_URL", text: target.base },
            { name: "ENDPOINT", text: target.endpoint },
            { name: "TOKEN", text: target.token },
          ],
        },
      };
    });
  },
};

// Miniflare imports this file as a module, and Node finds the names of its exports in this form alone.
exports.plugins = { [PLUGIN]: plugin };
