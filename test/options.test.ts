import { createTotp, generateFernetKey, type Totp } from 'totp-kit'
import { expressTotp } from 'totp-kit/express'
import { fetchTotp } from 'totp-kit/fetch'
import { createHandle } from 'totp-kit/http'
import { jwtTokens } from 'totp-kit/jwt'
import { nodemailerSender, notifyByMail } from 'totp-kit/mail'
import { nodeTotp } from 'totp-kit/node'
import { accountRecovery } from 'totp-kit/recovery'
import { withRedis } from 'totp-kit/redis'
import { d1Store } from 'totp-kit/store/d1'
import { libsqlStore } from 'totp-kit/store/libsql'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { sqliteStore } from 'totp-kit/store/sqlite'
import ts from 'typescript'
import { beforeAll, describe, expect, test } from 'vitest'
import { TOTP_EVENTS } from '../src/events.ts'
import { doorProgram, exportsOf } from './doors.ts'
import { ROOT } from './markdown.ts'

const caller = () => null
const client = { query: async () => ({ rows: [] }) }
const connection = {
  execute: async () => [[], []] as [unknown, unknown],
  query: async () => [[], []] as [unknown, unknown],
}

const d1Statement = { bind: () => d1Statement }

// biome-ignore lint/suspicious/noExplicitAny: what a host without a compiler gives.
type Given = any
type Give = (options: Given, totp: Totp) => unknown

const createWith = (options: object) =>
  createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore(), ...options })

/** Every level at which options are given: the type that names them, and the way to give them. */
const LEVELS: readonly [level: string, type: string, give: Give][] = [
  ['createTotp', 'TotpOptions', (options) => createTotp(options)],
  ['createTotp, totp', 'CodeOptions', (totp) => createWith({ totp })],
  ['createTotp, backupCodes', 'BackupCodeOptions', (backupCodes) => createWith({ backupCodes })],
  ['createTotp, failures', 'FailureOptions', (failures) => createWith({ failures })],
  ['createTotp, trustedDevices', 'TrustedDeviceOptions', (trustedDevices) => createWith({ trustedDevices })],
  ['createTotp, stepUp', 'StepUpOptions', (stepUp) => createWith({ stepUp })],
  ['createTotp, enforcement', 'Enforcement', (enforcement) => createWith({ enforcement, findUser: () => null })],
  ['totp.on', 'ListenerOptions', (options, totp) => totp.on('*', () => undefined, options)],
  ['totp.importAuthenticator', 'AuthenticatorImport', (brought, totp) => totp.importAuthenticator('42', brought)],
  ['totp.unlock', 'By', (by, totp) => totp.unlock('42', by)],
  ['totp.within', 'WithinLimits', (limits, totp) => totp.within({}, async () => undefined, limits)],
  [
    'totp.transaction',
    'WithinLimits',
    (limits, totp) => totp.transaction((within) => within({}, async () => undefined, limits)),
  ],
  ['totp.requireFresh', 'Freshness', (freshness, totp) => totp.requireFresh(null, freshness)],
  ['jwtTokens', 'JwtOptions', (options, totp) => jwtTokens(totp, options)],
  ['accountRecovery', 'RecoveryOptions', (options, totp) => accountRecovery(totp, options)],
  ['notifyByMail', 'NotifyOptions', (options, totp) => notifyByMail(totp, options)],
  ['nodemailerSender', 'SenderOptions', (options) => nodemailerSender({ sendMail: async () => undefined }, options)],
  [
    'nodemailerSender, templates',
    'MailTemplates',
    (templates) => nodemailerSender({ sendMail: async () => undefined }, { from: 'a@example.com', templates }),
  ],
  ['createHandle', 'HandleOptions', (options, totp) => createHandle(totp, options)],
  ['createHandle, require', 'Freshness', (freshness, totp) => createHandle(totp, { caller }).require(freshness, null)],
  ['expressTotp', 'ExpressOptions', (options, totp) => expressTotp(totp, options)],
  ['expressTotp, require', 'Freshness', (freshness, totp) => expressTotp(totp, { caller }).require(freshness)],
  ['nodeTotp', 'NodeOptions', (options, totp) => nodeTotp(totp, options)],
  ['nodeTotp, require', 'Freshness', (freshness, totp) => nodeTotp(totp, { caller }).require(freshness)],
  ['fetchTotp', 'FetchOptions', (options, totp) => fetchTotp(totp, options)],
  [
    'fetchTotp, require',
    'Freshness',
    (freshness, totp) => fetchTotp(totp, { caller }).require(freshness, () => new Response()),
  ],
  ['sqliteStore', 'SqliteOptions', (options) => sqliteStore(':memory:', options)],
  ['libsqlStore', 'SqliteOptions', (options) => libsqlStore({ batch: async () => [] }, options)],
  ['d1Store', 'SqliteOptions', (options) => d1Store({ prepare: () => d1Statement, batch: async () => [] }, options)],
  ['postgresStore', 'TableOptions', (options) => postgresStore(client, options)],
  ['postgresStore, within', 'WithinOptions', (options) => postgresStore(client).within({ ...client }, options)],
  ['mysqlStore', 'TableOptions', (options) => mysqlStore(poolOf(), options)],
  ['mysqlStore, within', 'WithinOptions', (options) => mysqlStore(poolOf()).within({ ...connection }, options)],
  ['withRedis', 'RedisOptions', (options) => withRedis(memoryStore(), { sendCommand: async () => null }, options)],
]

/** Types of a door that are a part of another one, or no options: what `failures` comes to. */
const PARTS = ['PolicyOptions', 'HostOptions', 'FailureLimits']

function poolOf() {
  return { ...connection, getConnection: async () => ({ ...connection, release() {}, destroy() {} }) }
}

async function refusalOf(give: () => unknown): Promise<unknown> {
  try {
    await give()
    return null
  } catch (error) {
    return error
  }
}

describe('an option that does not exist', () => {
  let totp: Totp
  let types: Map<string, ts.Type>
  let checker: ts.TypeChecker
  beforeAll(async () => {
    totp = await createWith({})
    const program = doorProgram()
    checker = program.getTypeChecker()
    const symbols = exportsOf(program).flatMap((door) => door.symbols)
    types = new Map(symbols.map((symbol) => [symbol.name, checker.getDeclaredTypeOfSymbol(symbol)]))
  }, 120_000)

  test.each(LEVELS)('is refused by %s, and what exists is what the type %s has', async (_level, type, give) => {
    const error = await refusalOf(() => give({ qqqqqqqqqq: 1 }, totp))

    expect(error).toBeInstanceOf(TypeError)
    const [, path, known = ''] = /^unknown option ([\w.]+); known: (.+)$/.exec((error as Error).message) ?? []
    expect(path).toMatch(/(^|\.)qqqqqqqqqq$/)
    const declared = types.get(type)
    if (declared === undefined) throw new Error(`${type} is exported by no door`)
    expect(known.split(', ').sort()).toEqual(
      checker
        .getPropertiesOfType(declared)
        .map(({ name }) => name)
        .sort(),
    )
  })

  test('is looked for at every level that a door has a type for', () => {
    const checked = new Set([...LEVELS.map(([, type]) => type), ...PARTS])
    const named = [...types.keys()].filter((name) => /(Options|Limits|Freshness|Import|Templates)$/.test(name))

    expect(named.length).toBeGreaterThan(15)
    expect(named.filter((name) => !checked.has(name))).toEqual([])
  })

  test.each([
    [{ isuer: 'Acme' }, 'unknown option isuer: did you mean issuer?'],
    [{ backupCode: {} }, 'unknown option backupCode: did you mean backupCodes?'],
    [{ failures: { delayAftr: 3 } }, 'unknown option failures.delayAftr: did you mean delayAfter?'],
    [{ failures: { delay: 3 } }, 'unknown option failures.delay: did you mean delayAfter?'],
    [{ stepUp: { maxAge: 300 } }, 'unknown option stepUp.maxAge: did you mean maxAgeSeconds?'],
    [{ digits: 8 }, 'unknown option digits: did you mean totp.digits?'],
    [{ toString: 1 }, expect.stringMatching(/^unknown option toString; known: issuer, /)],
  ])('%j: the refusal names it with its path, and the nearest one that exists', async (options, message) => {
    expect(await refusalOf(() => createWith(options))).toEqual(expect.objectContaining({ message }))
  })

  test('may be undefined, and so may any that exists', async () => {
    const undefinedOptions = {
      totp: undefined,
      failures: { delayAfter: undefined },
      stepUp: undefined,
      later: undefined,
    }

    expect(await refusalOf(() => createWith(undefinedOptions))).toBeNull()
  })

  test('is not looked for in an instance of a class, whose options may stand in its prototype', async () => {
    class Settings {
      secret = 'secret'

      get basePath() {
        return '/auth'
      }
      caller(request: Request) {
        return request.headers.get('authorization') === this.secret ? { id: '42', accountName: 'ann' } : null
      }
    }
    const endpoints = fetchTotp(totp, new Settings())
    const asked = new Request('http://localhost/auth/totp/status/', { headers: { authorization: 'secret' } })

    expect((await endpoints(asked)).status).toBe(200)
  })
})

describe('an event that does not exist', () => {
  test('is refused with the nearest one that does; every other one and * are taken', async () => {
    const totp = await createWith({})
    const on = (type: string) => totp.on(type as '*', () => undefined)

    expect(() => on('totp.confirm')).toThrow(new TypeError('unknown event totp.confirm: did you mean totp.confirmed?'))
    expect(() => on('backup_codes.rotate')).toThrow(/did you mean backup_codes\.rotated\?$/)
    expect(() => on('x')).toThrow(/^unknown event x; known: totp\.created, /)
    expect(() => totp.on(undefined as unknown as '*', () => undefined)).toThrow(TypeError)
    for (const type of [...TOTP_EVENTS, '*']) on(type)()
  })

  test('is in no list: TOTP_EVENTS names each type of TotpEvent once', () => {
    const program = doorProgram()
    const checker = program.getTypeChecker()
    const tree = program.getSourceFile(`${ROOT}src/events.ts`)
    const alias = tree?.statements.filter(ts.isTypeAliasDeclaration).find(({ name }) => name.text === 'TotpEvent')
    if (alias === undefined) throw new Error('src/events.ts has no TotpEvent')
    const events = checker.getTypeAtLocation(alias.name)
    const property = events.getProperty('type')
    const union = property && checker.getTypeOfSymbolAtLocation(property, alias)

    const declared = union?.isUnion() ? union.types.map((type) => (type as ts.StringLiteralType).value) : []
    expect([...TOTP_EVENTS].sort()).toEqual(declared.sort())
  })
})
