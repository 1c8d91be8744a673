import cluster from 'node:cluster'
import { fileURLToPath } from 'node:url'
import { createApp } from './app.ts'
import { openDatabase } from './database.ts'
import { readSettings, type Settings } from './settings.ts'
import { usersIn } from './users.ts'

const page = fileURLToPath(new URL('page', import.meta.url))
// One line each: a device's name, or a mail server's answer, must not make a line that looks like ours.
const log = (line: string) => console.log(`${new Date().toISOString()} ${line.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')}`)

function main(): Promise<void> | void {
  const settings = readSettings(process.env)
  if (settings.keyFile && cluster.isPrimary) {
    log(`warning: TOTP_ENCRYPTION_KEY is not set; using the key kept in ${settings.keyFile}`)
  }
  if (settings.workers === 1) return serve(settings, announce)
  if (cluster.isPrimary) return prepare(settings).then(() => lead(settings))
  return serve(settings, () => undefined)
}

/** One process that serves. */
async function serve(settings: Settings, listening: (host: string, port: number) => void): Promise<void> {
  const { database, store, close } = await openDatabase(settings.databaseUrl, settings.redisUrl, log)
  let port = settings.port
  const url = () => urlOf(settings.host, port)
  const { app, close: settle } = await createApp(settings, { database, store, page, url, log })
  const server = app.listen(settings.port, settings.host)
  server.on('error', stop)
  server.on('listening', () => {
    const address = server.address()
    if (typeof address === 'object' && address) port = address.port
    listening(settings.host, port)
  })
  onSignal(() => {
    server.close(() =>
      settle()
        .then(close)
        .finally(() => process.exit(0)),
    )
    // A connection whose last answer is still under way becomes idle later.
    setInterval(() => server.closeIdleConnections(), 50).unref()
    server.closeIdleConnections()
    // Neither a request that hangs nor a mail server that does may keep the process.
    setTimeout(() => {
      log('warning: shutdown took longer than five seconds; unfinished work was stopped')
      process.exit(0)
    }, 5000).unref()
  })
}

/** Makes the tables once, before several processes want them. */
async function prepare(settings: Settings): Promise<void> {
  const { database, close } = await openDatabase(settings.databaseUrl, settings.redisUrl, log)
  await usersIn(database)
  await close()
}

/** The process that keeps the others: starts them, puts a new one in the place of one that died, ends them. */
function lead({ workers, host }: Settings): void {
  let ending = false
  let served = false
  let alive = workers
  for (let i = 0; i < workers; i++) cluster.fork()
  cluster.on('listening', (_worker, { port }) => {
    if (!served) announce(host, port)
    served = true
  })
  // Each of them may fail for the same reason: it is told once.
  cluster.on('message', (_worker, message: unknown) => {
    if (!served) stop(new Error(String(message)))
    log(`error ${message}`)
  })
  cluster.on('exit', (_worker, code) => {
    alive--
    if (!ending && !served) process.exit(code || 1)
    if (ending && alive === 0) process.exit(0)
    if (ending) return
    log('warning: a worker process stopped unexpectedly; starting another')
    alive++
    cluster.fork()
  })
  onSignal(() => {
    ending = true
    for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill('SIGTERM')
  })
}

function announce(host: string, port: number): void {
  console.log(`totp-kit demo: ${urlOf(host, port)}`)
}

function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}/`
}

function onSignal(end: () => void): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, end)
}

/** One clear line, exit code 1. */
function stop(error: unknown): void {
  const message =
    error instanceof Error ? error.message || String((error as NodeJS.ErrnoException).code) : 'cannot start'
  if (cluster.isWorker) {
    process.send?.(message, () => process.exit(1))
    return
  }
  console.error(`totp-kit demo: ${message}`)
  process.exit(1)
}

try {
  Promise.resolve(main()).catch(stop)
} catch (error) {
  stop(error)
}
