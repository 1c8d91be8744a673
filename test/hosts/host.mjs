// One process of a host, which does what its parent says: verifies codes at a time that the parent names, and tells how each
// attempt came out. Killed at any moment; whatever it has told must be written by then.
import pg from 'pg'
import { createTotp, TotpError } from 'totp-kit'
import { postgresStore } from 'totp-kit/store/postgres'
import { sqliteStore } from 'totp-kit/store/sqlite'

const { database, encryptionKey, failures } = JSON.parse(process.argv[2])

let now = 0
const store = await openStore()
await store.migrate()
const totp = await createTotp({
  issuer: 'Host',
  encryptionKey,
  store,
  failures,
  clock: () => now,
  onError: () => undefined,
})

async function openStore() {
  if (!database.startsWith('postgres')) return sqliteStore(database)
  const pool = new pg.Pool({ connectionString: database, max: 10, connectionTimeoutMillis: 2000 })
  pool.on('error', () => undefined)
  return postgresStore(pool)
}

const calls = {
  async enroll({ userId }) {
    const { uri } = await totp.createTotpSetup({ id: userId, accountName: userId })
    return { uri }
  },
  confirm: async ({ userId, code }) => ({ backupCodes: (await totp.confirmTotpSetup(userId, code)).backupCodes }),
  async totp({ userId, code }) {
    await totp.verifyTotpCode(userId, code)
  },
  async backup_code({ userId, code }) {
    await totp.verifyBackupCode(userId, code)
  },
}

process.on('message', async ({ id, call, at, ...given }) => {
  // Each method reads the clock once, when it is called: calls at once may be at different times.
  now = at
  try {
    const made = await calls[call](given)
    process.send({ id, outcome: 'ok', ...made })
  } catch (error) {
    process.send({ id, outcome: error instanceof TotpError ? error.code : `bug: ${error.stack}` })
  }
})
process.on('disconnect', () => process.exit())
process.send({ id: 'ready' })
