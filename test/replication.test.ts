import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import pg from 'pg'
import { createTotp, generateFernetKey } from 'totp-kit'
import { postgresStore } from 'totp-kit/store/postgres'
import { describe, expect, onTestFinished, test } from 'vitest'
import { wayTo } from './flaky-proxy.ts'
import { ownPostgres, ownStandby } from './own-servers.ts'
import { clientsOf, inTurns, people, replayAll, type Used } from './replication/clients.ts'
import { until } from './wait-until.ts'

const AT_ONCE = 16

async function startPair(settings: string[]) {
  if (!ownPostgres || !ownStandby) throw new Error('unreachable')
  const primary = await ownPostgres(settings)
  onTestFinished(primary.remove)
  const stream = await wayTo(primary.url)
  onTestFinished(stream.close)
  const standby = await ownStandby(stream.url)
  onTestFinished(standby.remove)
  /** Where the host finds the database, as by the virtual address or the proxy of a cluster. */
  const address = await wayTo(primary.url)
  onTestFinished(address.close)
  return { primary, stream, standby, address }
}

async function ask(url: string, sql: string, values: unknown[] = []) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(sql, values)).rows[0]
  } finally {
    await client.end()
  }
}

/** Two processes of a host, which nobody restarts. */
async function startHost(config: { url: string; encryptionKey: string; epoch: number; speed: number }) {
  const uncaught: string[] = []
  const start = async () => {
    const child: ChildProcess = fork(new URL('soak/server.mjs', import.meta.url), [JSON.stringify(config)])
    onTestFinished(() => void child.kill('SIGKILL'))
    child.on('message', (message: { uncaught?: string }) => {
      if (message.uncaught) uncaught.push(message.uncaught)
    })
    child.on('exit', (code, signal) => uncaught.push(`the process ended with ${code ?? signal}`))
    const [{ port }] = (await once(child, 'message')) as [{ port: number }]
    return port
  }
  return { ports: await Promise.all([start(), start()]), uncaught }
}

async function startLogins(url: string, count: number) {
  const encryptionKey = generateFernetKey()
  const epoch = Math.floor(Date.now() / 1000)
  const pool = new pg.Pool({ connectionString: url, max: 8 }).on('error', () => undefined)
  onTestFinished(() => pool.end())
  const store = postgresStore(pool)
  await store.migrate()
  const totp = await createTotp({ issuer: 'Soak', encryptionKey, store, clock: () => epoch })
  const everybody = people(count)
  await inTurns(everybody, AT_ONCE, async ({ id, secret, backupCodes, spareCode }) => {
    await totp.importAuthenticator(id, { secret, backupCodes: [...backupCodes, spareCode] })
  })
  // Slower than the world, so that a code is refused because it was used, and never because the test took too long.
  const host = await startHost({ url, encryptionKey, epoch, speed: 0.01 })
  const clients = clientsOf(host.ports, epoch)
  const done = clients.logInAll(everybody, AT_ONCE)
  const reached = (logins: number) => until(async () => clients.sessions.length >= logins, 5, 60_000)
  return { totp, host, clients, done, reached }
}

describe.skipIf(!ownPostgres || !ownStandby)('the primary is killed in the middle of many logins', () => {
  test('with remote_apply nothing that was accepted is accepted again, and the host goes on by itself', {
    timeout: 240_000,
  }, async () => {
    const { primary, standby, address } = await startPair([
      'synchronous_standby_names=*',
      'synchronous_commit=remote_apply',
    ])
    const { host, clients, done, reached } = await startLogins(address.url, 500)

    await reached(250)
    await primary.kill()
    await until(async () => clients.unavailable() >= 50, 5, 30_000)
    await ask(standby.url, 'SELECT pg_promote()')
    clients.enterStage('after')
    address.leadTo(standby.url)
    await done

    expect(clients.sessions).toHaveLength(500)
    expect(clients.wrong).toEqual([])
    expect(clients.loggedOut, 'of those whose session began before').toEqual([])
    expect(host.uncaught).toEqual([])
    const replayed = clients.used.filter(({ accepted, wasUnavailable }) => accepted === 'before' || wasUnavailable)
    const outcomes = await replayAll(replayed, AT_ONCE)
    expect(clients.used.filter(({ acceptances }) => acceptances > 1)).toEqual([])
    expect(outcomes.filter((line) => line.includes('accepted before'))).toEqual([
      'app code accepted before: code_already_used',
      'backup code accepted before: invalid_code',
      'challenge token accepted before: challenge_invalid',
      'refresh token accepted before: invalid_token',
    ])
  })

  test('with asynchronous replication the last of it is accepted again, unless the operator ends it', {
    timeout: 240_000,
  }, async () => {
    const { primary, stream, standby, address } = await startPair(['synchronous_commit=local'])
    const { totp, host, clients, done, reached } = await startLogins(address.url, 240)

    await reached(80)
    clients.enterStage('around the cut')
    const { lsn } = await ask(primary.url, 'SELECT pg_current_wal_lsn() AS lsn')
    const hasReplayed = 'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS yes'
    await until(async () => (await ask(standby.url, hasReplayed, [lsn])).yes, 5, 30_000)
    stream.fallSilent()
    clients.enterStage('unreplicated')
    await reached(clients.sessions.length + 80)
    await primary.kill()
    await ask(standby.url, 'SELECT pg_promote()')
    clients.enterStage('after')
    address.leadTo(standby.url)
    await done
    // The operator looks after the users with an even number.
    const isAttended = ({ userId }: Used) => Number(userId.slice('user-'.length)) % 2 === 0
    await inTurns(
      [...new Set(clients.used.filter(isAttended).map(({ userId }) => userId))],
      AT_ONCE,
      async (userId) => {
        await totp.credentialsChanged(userId)
        await totp.rotateBackupCodes(userId)
      },
    )
    await replayAll(
      clients.used.filter(({ accepted }) => accepted !== 'after'),
      AT_ONCE,
    )

    expect(clients.sessions).toHaveLength(240)
    expect(clients.wrong).toEqual([])
    expect(clients.loggedOut, 'of those whose session the standby did not receive').not.toEqual([])
    expect(host.uncaught).toEqual([])
    const twice = clients.used.filter(({ acceptances }) => acceptances > 1)
    const kinds = (entries: Used[]) => [...new Set(entries.map(({ kind }) => kind))].sort()
    expect(twice.filter(({ accepted }) => accepted === 'before')).toEqual([])
    expect(kinds(twice.filter((entry) => !isAttended(entry)))).toEqual([
      'app code',
      'backup code',
      'challenge token',
      'refresh token',
    ])
    // The new primary does not know that their time step was spent. Only time ends them.
    expect(kinds(twice.filter(isAttended))).toEqual(['app code'])
  })
})
