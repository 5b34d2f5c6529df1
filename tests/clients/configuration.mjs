// What wrangler's own functions make of projects. Reads a list of `{cwd, environ, arguments}` from standard input and
// prints a list of `{settings, dev_vars}` or `{error}`; its messages go elsewhere, so the list is all that is printed.
import { relative, resolve } from "node:path";
import { text } from "node:stream/consumers";

for (const name of ["log", "info", "warn", "error", "debug"]) console[name] = () => {};
const { unstable_getVarsForDev, unstable_readConfig } = await import("wrangler");

function read({ cwd, environ, arguments: { config, script, env, env_files, redirect } }) {
  process.chdir(cwd);
  process.env = { ...environ };
  const settings = unstable_readConfig({ config, script, env }, { useRedirectIfAvailable: redirect });
  const { userConfigPath, configPath, name, account_id, compatibility_date, compatibility_flags, vars, ai } = settings;
  const files = env_files.length > 0 ? env_files : undefined;
  const bindings = unstable_getVarsForDev(userConfigPath, files, vars, env, true, settings.secrets);
  return {
    config_path: configPath === undefined ? null : relative(cwd, resolve(configPath)),
    name: name ?? null,
    account_id: account_id ?? null,
    compatibility_date: compatibility_date ?? null,
    compatibility_flags: compatibility_flags ?? [],
    vars: { ...vars },
    ai: ai ?? null,
    dev_vars: Object.fromEntries(Object.entries(bindings).map(([key, { value }]) => [key, value])),
  };
}

const answers = JSON.parse(await text(process.stdin)).map((project) => {
  try {
    return read(project);
  } catch (error) {
    return { error: String(error.message) };
  }
});
process.stdout.write(JSON.stringify(answers));
