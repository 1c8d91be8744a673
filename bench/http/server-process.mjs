/** The child's side of a server that is measured: listens, and answers what the measuring process asks. */
import { createServer } from 'node:http'
import { Session } from 'node:inspector/promises'

process.env.NODE_ENV = 'production'

/** What the parent gave: `database`, `encryptionKey`, `first`: this process makes the tables. */
export const config = JSON.parse(process.env.BENCH_SERVER ?? '{}')

/**
 * @param parts - `handlers`: a `node:http` handler by name, each gets a port of its own; `prepare(work, count)`: requests
 * that are good once; `moveClock(at)`, where the clock is given
 */
export async function serve({ handlers, prepare, moveClock = () => undefined }) {
  const ports = {}
  for (const [name, handler] of Object.entries(handlers)) {
    const server = createServer(handler)
    server.keepAliveTimeout = 120_000
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    ports[name] = server.address().port
  }
  const inspector = new Session()
  const answers = {
    ports: () => ports,
    moveClock: ({ at }) => moveClock(at),
    async prepare({ work, count }) {
      const requests = await prepare(work, count)
      globalThis.gc?.()
      return requests
    },
    cpu() {
      const { user, system } = process.cpuUsage()
      return user + system
    },
    async startProfile() {
      inspector.connect()
      await inspector.post('Profiler.enable')
      await inspector.post('Profiler.setSamplingInterval', { interval: 100 })
      await inspector.post('Profiler.start')
    },
    async stopProfile() {
      const { profile } = await inspector.post('Profiler.stop')
      inspector.disconnect()
      return profile
    },
  }
  process.on('message', async ({ id, ask, ...rest }) => {
    try {
      process.send({ id, answer: await answers[ask](rest) })
    } catch (error) {
      process.send({ id, error: String(error?.stack ?? error) })
    }
  })
  process.on('disconnect', () => process.exit())
  process.send({ id: 0, answer: null })
}

export function post(path, body, headers = {}) {
  return {
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  }
}
