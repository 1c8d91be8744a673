/**
 * Runs the promises of `TotpStore` on SQLite drivers and runtimes that the main tests do not run on. Without an argument
 * it runs every driver in its runtime; with one, that driver here.
 */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
// By path: this folder is a package of its own, in which `totp-kit` is no self-reference.
import { sqliteStore } from '../../dist/store/sqlite.js'
import { storeCases } from '../../dist/testing/index.js'

/** `connect` opens a connection of the host's own; without it the store opens the file itself. */
const drivers = {
  'Node 22, node:sqlite': { runtime: 'node' },
  'Node 22, better-sqlite3': {
    runtime: 'node',
    async connect(path) {
      const { default: Database } = await import('better-sqlite3')
      return new Database(path)
    },
  },
  'Bun, bun:sqlite': {
    runtime: 'bun',
    async connect(path) {
      const { Database } = await import('bun:sqlite')
      // Before 1.4 Bun wants names with their colon unless `strict`, and takes NULL for those that it does not find.
      return new Database(path, { strict: true })
    },
  },
  'Bun, node:sqlite': { runtime: 'bun' },
}

const [name] = process.argv.slice(2)
process.exitCode = (name === undefined ? runAll() : await runCases(name, drivers[name])) ? 0 : 1

function runAll() {
  const here = fileURLToPath(import.meta.url)
  const failed = Object.entries(drivers).filter(([name, { runtime }]) => {
    const program = fileURLToPath(new URL(`node_modules/.bin/${runtime}`, import.meta.url))
    const { status, error } = spawnSync(program, [here, name], { stdio: 'inherit' })
    if (error) console.error(`${name}: ${error.message}`)
    return status !== 0
  })
  return failed.length === 0
}

async function runCases(name, { connect }) {
  const version = process.versions.bun ?? process.versions.node
  const directory = await mkdtemp(join(tmpdir(), 'totp-kit-runtimes-'))
  let failures = 0
  for (const [index, { name: promise, run }] of storeCases.entries()) {
    const closers = []
    try {
      await run(async () => {
        const path = join(directory, `case-${index}.db`)
        const connection = connect && (await connect(path))
        connection?.exec('PRAGMA busy_timeout = 5000')
        connection?.exec('PRAGMA journal_mode = WAL')
        const store = await sqliteStore(connection ?? path)
        closers.push(async () => {
          await store.close()
          connection?.close()
        })
        return store
      })
    } catch (error) {
      failures++
      console.error(`${name}: ${promise}\n`, error)
    } finally {
      for (const close of closers) await close()
    }
  }
  // `force`: Bun lets go of a database when it collects its statements, and SQLite then deletes files under this call.
  await rm(directory, { recursive: true, force: true })
  console.log(`${name} (${version}): ${storeCases.length - failures} passed, ${failures} failed`)
  return failures === 0
}
