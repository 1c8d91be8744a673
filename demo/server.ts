import { fileURLToPath } from 'node:url'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import { createApp } from './app.ts'
import { readSettings, SettingError } from './settings.ts'

const page = fileURLToPath(new URL('page', import.meta.url))
const log = (line: string) => console.log(`${new Date().toISOString()} ${line}`)

async function main(): Promise<void> {
  const settings = readSettings(process.env)
  const database = await openSqlite(settings.databasePath)
  const app = await createApp(settings, { database, store: await sqliteStore(database), page, log })
  const server = app.listen(settings.port, settings.host)
  server.on('error', stop)
  server.on('listening', () => {
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : settings.port
    if (settings.keyFile) log(`warning: TOTP_ENCRYPTION_KEY is not set; using the key kept in ${settings.keyFile}`)
    console.log(`totp-kit demo: http://${settings.host.includes(':') ? `[${settings.host}]` : settings.host}:${port}/`)
  })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      server.close(() => database.close())
      server.closeIdleConnections()
      // A request that hangs must not keep the process; five seconds are longer than any of ours takes.
      setTimeout(() => server.closeAllConnections(), 5000).unref()
    })
  }
}

/** One clear line, exit code 1. */
function stop(error: unknown): void {
  console.error(`totp-kit demo: ${error instanceof Error ? error.message : 'cannot start'}`)
  if (!(error instanceof SettingError) && process.env.DEBUG) console.error(error)
  process.exit(1)
}

main().catch(stop)
