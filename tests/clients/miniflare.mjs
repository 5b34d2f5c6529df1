// The worker inside a Miniflare whose AI binding is forwarded to the relay: argv is the package and the relay's URL.
import { readFile } from "node:fs/promises";

const [name, url] = process.argv.slice(2);
const { Miniflare } = await import(name);
const remoteProxyConnectionString = new URL(url);
const compatibilityDate = "2025-01-01";
const sources = await Promise.all(
  ["worker.mjs", "scenarios.mjs"].map(async (file) => [file, await readFile(new URL(file, import.meta.url), "utf8")]),
);

// Miniflare 5 takes what wrangler's configuration says, Miniflare 4 an option for each kind of binding.
const options = {
  "miniflare-4": {
    compatibilityDate,
    modules: sources.map(([path, contents]) => ({ type: "ESModule", path, contents })),
    ai: { binding: "AI", remoteProxyConnectionString },
  },
  miniflare: {
    workers: [
      {
        config: {
          name: "w",
          compatibilityDate,
          env: { AI: { type: "ai", dev: { remote: true } } },
          manifest: {
            mainModule: "worker.mjs",
            modules: Object.fromEntries(sources.map(([path, contents]) => [path, { type: "esm", contents }])),
          },
        },
        dev: { remoteProxyConnectionString },
      },
    ],
  },
}[name];

const miniflare = new Miniflare(options);
try {
  console.log(await (await miniflare.dispatchFetch("http://localhost/")).text());
} finally {
  await miniflare.dispose();
}
