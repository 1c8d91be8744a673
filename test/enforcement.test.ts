import assert from 'node:assert/strict'
import { createTotp, type Enforcement, generateFernetKey, type TotpEvent } from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, test } from 'vitest'

const NOON = 1_800_000_000

/** A host that knows Ann and Bob, and asks `required` about both. */
async function host(required: Enforcement<string>['required'], unknown: () => null = () => null) {
  const clock = fakeClock(NOON)
  const asked: string[] = []
  const events: TotpEvent[] = []
  const users = new Map([
    ['ann', 'Ann'],
    ['bob', 'Bob'],
  ])
  const totp = await createTotp<string>({
    issuer: 'Acme',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    clock: clock.now,
    findUser: (id) => users.get(id) ?? unknown(),
    enforcement: {
      required(user) {
        asked.push(user)
        return required(user)
      },
      accountName: (user) => `${user}@example.com`,
    },
  })
  totp.on('enrollment.required', (event) => void events.push(event))
  const handler = fetchTotp(totp, { caller: () => null, clientAddress: () => '127.0.0.1' })
  const status = async (authorization?: string) => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
    return (await handler(new Request('http://service.test/api/totp/status/', { headers }))).status
  }
  const tokenFor = async (id: string) => {
    const start = await totp.startLogin(id)
    assert.ok('enrollmentToken' in start)
    return start.enrollmentToken
  }
  return { totp, clock, asked, events, users, status, tokenFor }
}

/** What a host's `findUser` may give for nobody. */
const nobodies = [{ nobody: null }, { nobody: undefined }, { nobody: false }].map(({ nobody }) => ({
  nobody,
  unknown: () => nobody as unknown as null,
}))

test.each(nobodies)('a user whom the host does not know is not let in: $nobody', async ({ unknown }) => {
  const { totp, asked } = await host(() => false, unknown)

  assert.equal('enrollmentToken' in (await totp.startLogin('eve')), true)
  assert.deepEqual(asked, [], 'the rule gets users only')
})

test('who must enroll is announced, and who need not is not', async () => {
  const { totp, events, asked } = await host((user) => user === 'Ann')

  assert.equal('enrollmentToken' in (await totp.startLogin('ann')), true)
  assert.equal('proof' in (await totp.startLogin('bob')), true)

  assert.deepEqual(events, [{ type: 'enrollment.required', userId: 'ann', at: NOON }])
  assert.deepEqual(asked, ['Ann', 'Bob'])
})

test.each([Number.NaN, undefined, '2027-01-15', (NOON - 86_400) * 1000, null])(
  'a moment that is none in Unix seconds lets nobody in: %s',
  async (from) => {
    const { totp } = await host(() => ({ from: from as number }))
    const expected = new TypeError('enforcement.required must return true, false or { from } in Unix seconds')

    await assert.rejects(totp.startLogin('ann'), expected)
    await assert.rejects(
      totp.forecastEnforcement(['ann'], () => ({ from: from as number })),
      expected,
    )
  },
)

test('from the second on that the rule names', async () => {
  const { totp, clock } = await host(() => ({ from: NOON + 1 }))

  assert.equal('proof' in (await totp.startLogin('ann')), true)
  clock.advance(1)
  assert.equal('enrollmentToken' in (await totp.startLogin('ann')), true)
})

describe('the token that opens enrollment', () => {
  test('stands in the header as RFC 6750 has it: the scheme in any letters, the token and nothing else', async () => {
    const { status, tokenFor } = await host(() => true)
    const token = await tokenFor('ann')

    for (const header of [`Bearer ${token}`, `bearer ${token}`, `BEARER   ${token}`, `Bearer ${token}  `]) {
      assert.equal(await status(header), 200, header.replace(token, '…'))
    }
    const others = [undefined, '', token, 'Bearer', 'Bearer ', `Basic ${token}`, `Bearer${token}`, `xBearer ${token}`]
    for (const header of [...others, `Bearer ${token} x`, `Bearer ${token}, Bearer ${token}`, `Bearer x ${token}`]) {
      assert.equal(await status(header), 401, header?.replace(token, '…'))
    }
  })

  test.each(nobodies)('is good while the host knows the user and the factors have not changed: $nobody', async (n) => {
    const { totp, status, tokenFor, users } = await host(() => true, n.unknown)
    const [anns, bobs] = [await tokenFor('ann'), await tokenFor('bob')]
    users.delete('bob')
    const refused = (token: string) => assert.rejects(totp.verifyEnrollmentToken(token), { code: 'unauthenticated' })
    assert.deepEqual([await status(`Bearer ${anns}`), await status(`Bearer ${bobs}`)], [200, 401])
    assert.equal(await totp.verifyEnrollmentToken(anns), 'ann')
    for (const token of [bobs, `${anns}x`, '', await totp.generateChallengeToken('ann')]) await refused(token)

    await totp.credentialsChanged('ann')

    assert.equal(await status(`Bearer ${anns}`), 401)
    await refused(anns)
  })

  test('is not asked for where the host enforces nothing', async () => {
    const { tokenFor } = await host(() => true)
    const plain = await createTotp({ issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() })
    const handler = fetchTotp(plain, { caller: () => null, clientAddress: () => '127.0.0.1' })
    const headers = { authorization: `Bearer ${await tokenFor('ann')}` }

    const { status } = await handler(new Request('http://service.test/api/totp/status/', { headers }))

    assert.equal(status, 401)
  })
})

test.each(nobodies)(
  'a forecast leaves out whom the host does not know, and whom no rule asks: $nobody',
  async ({ unknown }) => {
    const { totp } = await host(() => false, unknown)
    const phone = authenticatorFor((await totp.createTotpSetup({ id: 'bob', accountName: 'bob' })).uri)
    await totp.confirmTotpSetup('bob', phone.codeAt(NOON))
    const forecast = (required: Enforcement<string>['required']) =>
      totp.forecastEnforcement(['ann', 'bob', 'eve'], required)

    assert.deepEqual(await forecast(() => false), { users: 2, enabled: 1, asked: 0, shutOut: 0 })
    assert.deepEqual(await forecast(() => true), { users: 2, enabled: 1, asked: 0, shutOut: 1 })
    assert.deepEqual(await forecast(() => ({ from: NOON })), { users: 2, enabled: 1, asked: 0, shutOut: 1 })
    assert.deepEqual(await forecast(() => ({ from: NOON + 1 })), { users: 2, enabled: 1, asked: 1, shutOut: 0 })
  },
)
