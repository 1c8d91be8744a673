/**
 * Compiles and runs the recipes of docs/recipes.md: each with its files, its commands, and the case of the same name here,
 * which proves that it does what it says. Without an argument it runs all; with names, those.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import mysql from 'mysql2/promise'
import pg from 'pg'
// By path: this folder is a package of its own, in which `totp-kit` is no self-reference.
import { generateFernetKey } from '../../dist/index.js'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const MODULES = join(HERE, 'node_modules')
/** What `npx` does where the package is installed, on the Node that runs this; npx itself would take that of `.bin`. */
const NPX = `npx() { program=$1; shift; '${process.execPath}' '${join(MODULES, '.bin')}'/$program "$@"; }\n`

const TSCONFIG = {
  compilerOptions: {
    target: 'es2023',
    module: 'nodenext',
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    // The declarations of ORMs name drivers that are not installed.
    skipLibCheck: true,
    rootDir: 'source',
    outDir: 'built',
  },
  include: ['source'],
}

const servers = {
  postgres: { name: 'PostgreSQL', url: process.env.TEST_POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test' },
  mysql: { name: 'MariaDB', url: process.env.TEST_MYSQL_URL ?? 'mysql://root@127.0.0.1:3306/test' },
}

const isThere = { postgres: await answers(servers.postgres), mysql: await answers(servers.mysql) }
const recipes = await recipesOf(join(ROOT, 'docs/recipes.md'))
const cases = (await readdir(join(HERE, 'cases'))).map((file) => basename(file, '.ts'))
const wanted = process.argv.slice(2)

let folder
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'totp-kit-recipes-'))
  await installed()
  for (const [name, recipe] of recipes) await lay(name, recipe)
  for (const file of ['proof.ts', 'hosts.ts']) await copyFile(join(HERE, file), join(folder, 'source', file))
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(TSCONFIG))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
})
after(() => rm(folder, { recursive: true, force: true }))

test('every recipe has a case, and every case a recipe', () => {
  assert.deepEqual([...recipes.keys()].sort(), cases.sort())
})

test('the commands of the recipes print and generate what they say', () => {
  for (const [name, { commands }] of recipes) {
    for (const command of commands) commandLine(command, join(folder, 'source', name))
  }
})

for (const [dialect, { drizzle, prisma }] of Object.entries({
  postgres: { drizzle: 'postgresql', prisma: 'postgresql' },
  mysql: { drizzle: 'mysql', prisma: 'mysql' },
  sqlite: { drizzle: 'sqlite', prisma: 'sqlite' },
})) {
  test(`Drizzle and Prisma take the schemas printed for ${dialect}`, async () => {
    const cwd = join(folder, 'source/schemas', dialect)
    await mkdir(cwd, { recursive: true })
    await writeFile(join(cwd, 'schema.prisma'), `datasource db {\n  provider = "${prisma}"\n}\n\n`)
    const commands = `
      npx totp-kit schema --dialect drizzle-${dialect} > drizzle.ts
      npx drizzle-kit generate --dialect ${drizzle} --schema drizzle.ts --out generated
      npx totp-kit schema --dialect prisma-${dialect} >> schema.prisma
      npx prisma validate --schema schema.prisma`
    commandLine(commands, cwd)
  })
}

test('the recipes are strict TypeScript', async () => {
  run(process.execPath, [join(MODULES, '.bin/tsc'), '--project', folder], { cwd: folder })
  // What TypeScript leaves behind: printed SQL, generated migrations.
  const filter = (path) => !path.endsWith('.ts')
  await cp(join(folder, 'source'), join(folder, 'built'), { recursive: true, filter })
})

for (const name of cases.filter((name) => wanted.length === 0 || wanted.includes(name))) {
  const [, dialect] = name.split('-')
  const server = servers[dialect]
  const skip = server && !isThere[dialect] ? `no ${server.name}: LEFT OUT` : false
  test(`${name} enrolls, verifies, rolls back, and opens no second pool`, { skip }, async () => {
    const { url, drop } = server ? await freshDatabase(dialect, server.url) : { url: '', drop: async () => undefined }
    try {
      const env = { DATABASE_URL: url, TOTP_ENCRYPTION_KEY: generateFernetKey() }
      // The driver better-sqlite3 is built for Node 22 and later.
      const node = dialect === 'sqlite' ? join(MODULES, '.bin/node') : process.execPath
      run(node, ['case.js'], { cwd: join(folder, 'built', name), env })
    } finally {
      await drop()
    }
  })
}

/** By name: the files of each recipe, and the commands that come between. */
async function recipesOf(document) {
  const text = await readFile(document, 'utf8')
  const found = new Map()
  for (const [, marks, code] of text.matchAll(/^```(\S+ recipe=.*)\n([\s\S]*?)^```$/gm)) {
    const { language, name, file } = /^(?<language>\w+) recipe=(?<name>[\w-]+)(?: file=(?<file>\S+))?$/.exec(
      marks,
    ).groups
    if (!found.has(name)) found.set(name, { files: new Map(), commands: [] })
    if (language === 'sh') found.get(name).commands.push(code)
    else found.get(name).files.set(file, code)
  }
  return found
}

/** Writes the files of a recipe as a reader of the document would have them, and its case beside. */
async function lay(name, { files }) {
  for (const [file, code] of files) {
    const path = join(folder, 'source', name, file)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, code)
  }
  await copyFile(join(HERE, 'cases', `${name}.ts`), join(folder, 'source', name, 'case.ts'))
}

/** The packages of this folder and totp-kit, as in an application that has installed them: through its doors. */
async function installed() {
  for (const [target, path] of [
    [ROOT, join(MODULES, 'totp-kit')],
    [join(ROOT, 'dist/cli/index.js'), join(MODULES, '.bin/totp-kit')],
  ])
    if (!existsSync(path)) await symlink(target, path)
  await symlink(MODULES, join(folder, 'node_modules'))
}

function commandLine(commands, cwd) {
  // Neither `validate` nor `generate` asks Prisma's engine for migrations; a stand-in keeps Prisma from downloading it.
  run('sh', ['-e', '-c', NPX + commands], { cwd, env: { PRISMA_SCHEMA_ENGINE_BINARY: process.execPath } })
}

/** @throws AssertionError with what it printed, when it fails */
function run(program, args, { cwd, env = {} }) {
  const quiet = { CHECKPOINT_DISABLE: '1', PRISMA_HIDE_UPDATE_MESSAGE: '1', NO_COLOR: '1' }
  try {
    execFileSync(program, args, { cwd, env: { ...process.env, ...quiet, ...env }, stdio: 'pipe', timeout: 120_000 })
  } catch ({ message, stdout, stderr }) {
    assert.fail(message.includes(`${stderr}`) ? `${message}\n${stdout}` : `${message}\n${stdout}${stderr}`)
  }
}

/** Whether it listens. One that does not is left out, loudly; with REQUIRE_SERVICES=1 it is an error. */
async function answers({ name, url }) {
  const { hostname, port } = new URL(url)
  const isThere = await new Promise((resolve) => {
    const socket = connect(Number(port), hostname)
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.setTimeout(2000, () => resolve(false)).unref()
  })
  if (!isThere) {
    const message = `no ${name} at ${hostname}:${port}: its recipes are LEFT OUT`
    if (process.env.REQUIRE_SERVICES === '1') throw new Error(message)
    console.warn(`\n*** ${message} ***\n`)
  }
  return isThere
}

/** A database of its own, and the way to be rid of it. */
async function freshDatabase(dialect, base) {
  const name = `totp_kit_recipe_${process.pid}_${Math.random().toString(36).slice(2, 10)}`
  const url = new URL(base)
  url.pathname = `/${name}`
  const admin = dialect === 'postgres' ? new pg.Client({ connectionString: base }) : await mysql.createConnection(base)
  await admin.connect()
  await admin.query(`CREATE DATABASE ${name}`)
  const drop = async () => {
    await admin.query(`DROP DATABASE ${name}${dialect === 'postgres' ? ' WITH (FORCE)' : ''}`)
    await admin.end()
  }
  return { url: url.href, drop }
}
