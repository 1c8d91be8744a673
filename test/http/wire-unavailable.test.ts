import { createTotp, generateFernetKey, type TotpStore } from 'totp-kit'
import { type FetchOptions, fetchTotp } from 'totp-kit/fetch'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor } from 'totp-kit/testing'
import { describe, expect, test } from 'vitest'
import {
  beginEnrollment,
  challenge,
  type Enrolled,
  enroll,
  logIn,
  logInWithPhone,
  nextCode,
  wrongCode,
} from './actors.ts'
import { type Answer, answerOf, expectRulesOfEveryEndpoint } from './answer.ts'
import { FETCH, frameworks, NOON, type Service, startService } from './harness.ts'

interface Work {
  needs: keyof TotpStore
  work: string
  call: (service: Service, enrolled: Enrolled) => Promise<Answer>
}

const verify = (service: Service, { session, phone }: Enrolled) =>
  service.post('totp/verify/', { otp_code: phone.codeAt(service.clock.now()) }, session.access)

/** Every operation of the store that an endpoint asks for. `alice` has a fresh second factor. */
const works: readonly Work[] = [
  { needs: 'getUser', work: 'a login', call: (service, { person }) => service.post('jwt/create/', person) },
  {
    needs: 'getUser',
    work: 'an enrollment',
    call: (service, { session }) => service.post('totp/create/', {}, session.access),
  },
  {
    needs: 'getStatus',
    work: 'the status',
    call: (service, { session }) => service.get('totp/status/', session.access),
  },
  { needs: 'readFactors', work: 'a step-up', call: verify },
  { needs: 'settleAttempt', work: 'a step-up', call: verify },
  {
    needs: 'putPending',
    work: 'an enrollment',
    call: (service, { session }) => service.post('totp/create/', {}, session.access),
  },
  {
    needs: 'removeFactors',
    work: 'switching off',
    call: (service, { session }) => service.post('totp/disable/', {}, session.access),
  },
  {
    needs: 'replaceBackupCodes',
    work: 'a rotation',
    call: (service, { session }) => service.post('totp/rotate_backup_codes/', {}, session.access),
  },
  {
    needs: 'listBackupCodes',
    work: 'viewing',
    call: (service, { session }) => service.get('totp/backup_codes/', session.access),
  },
  {
    needs: 'rotateFamily',
    work: 'a refresh',
    call: (service, { session }) => service.post('jwt/refresh/', { refresh: session.refresh }),
  },
  {
    needs: 'isFamilyAlive',
    work: 'a look at a token',
    call: (service, { session }) => service.post('jwt/verify/', { token: session.access }),
  },
  {
    needs: 'endFamily',
    work: 'a logout',
    call: (service, { session }) => service.post('jwt/logout/', { refresh: session.refresh }),
  },
]

function expectUnavailable(answer: Answer): void {
  expect(answer.outcome).toBe('503 unavailable')
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
  expect(answer.text).not.toMatch(/database|internal|refused|store/i)
}

describe.each(frameworks)('$name: while the store cannot answer', (front) => {
  test.each(works)('$work is refused and not half done ($needs)', async ({ needs, call }) => {
    const service = await startService(front)
    const enrolled = await enroll(service)
    enrolled.session = await logInWithPhone(service, enrolled)
    service.clock.advance(30)
    service.broken.add(needs)
    expectUnavailable(await call(service, enrolled))
    expect(service.errors).toMatchObject([
      { code: 'unavailable', cause: { message: expect.stringContaining('database-7') } },
    ])
    service.broken.clear()
    expect((await call(service, enrolled)).status).toBeLessThan(300)
  })

  test('a confirmation is refused and not half done', async () => {
    const service = await startService(front)
    const { access } = await logIn(service, service.register('alice'))
    const phone = await beginEnrollment(service, access)
    service.broken.add('activatePending')
    const confirm = () => service.post('totp/confirm/', { input_code: phone.codeAt(service.clock.now()) }, access)
    expectUnavailable(await confirm())
    expect((await service.get('totp/status/', access)).body.is_totp_enabled).toBe(false)
    service.broken.clear()
    expect((await confirm()).outcome).toBe('200')
  })

  test('nobody is logged in, with or without a second factor', async () => {
    const service = await startService(front)
    const { person, phone } = await enroll(service)
    const bob = service.register('bob')
    const totp_challenge_token = await challenge(service, person)
    const otp_code = nextCode(service, phone)
    for (const needs of ['readFactors', 'settleAttempt'] as const) {
      service.broken.add(needs)
      expectUnavailable(await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code }))
      service.broken.clear()
    }
    service.broken.add('openFamily')
    expectUnavailable(await service.post('jwt/create/', bob))
    const verified = await service.post('jwt/totp/verify/', { totp_challenge_token, otp_code })
    expect(verified.outcome, 'nothing was spent').toBe('200')
  })

  test('an error is no free guess: a right and a wrong code get the same answer when nothing can be written', async () => {
    const service = await startService(front)
    const { session, phone } = await enroll(service)
    const wrong = wrongCode(service, phone)
    const otp_code = nextCode(service, phone)
    const verify = (code: string) => service.post('totp/verify/', { otp_code: code }, session.access)
    service.broken.add('settleAttempt')
    const [ofRight, ofWrong] = [await verify(otp_code), await verify(wrong)]
    expectUnavailable(ofRight)
    expect(ofWrong.outcome).toBe(ofRight.outcome)
    expect(ofWrong.body).toEqual(ofRight.body)
    service.broken.clear()
    expect((await verify(otp_code)).outcome, 'nothing was counted or spent').toBe('200')
  })
})

/** A service whose host gives what it should not. */
async function serviceWith(errors: unknown[], host: Omit<FetchOptions, 'clientAddress'>) {
  const totp = await createTotp({
    issuer: 'Acme',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    onError: (error) => void errors.push(error),
    clock: () => NOON,
  })
  return { totp, handler: fetchTotp(totp, { ...host, clientAddress: () => null }) }
}

describe("when the host's own code fails", () => {
  test('caller: nobody passes, the client learns nothing, and onError hears of it', async () => {
    const errors: unknown[] = []
    const { handler } = await serviceWith(errors, {
      caller: () => {
        throw new Error('password of the session database')
      },
    })
    const answer = await answerOf(await handler(new Request('http://service.test/api/totp/status/')))
    expectRulesOfEveryEndpoint(answer)
    expectUnavailable(answer)
    expect(errors).toMatchObject([{ message: 'password of the session database' }])
  })

  test('onVerified: the session that could not be written is not said to be verified', async () => {
    const errors: unknown[] = []
    const { totp, handler } = await serviceWith(errors, {
      caller: () => ({ id: '1', accountName: 'alice' }),
      onVerified: () => Promise.reject(new Error('password of the session database')),
    })
    const phone = authenticatorFor((await totp.createTotpSetup({ id: '1', accountName: 'alice' })).uri)
    const { backupCodes: codes } = await totp.confirmTotpSetup('1', phone.codeAt(NOON))
    const body = JSON.stringify({ backup_code: codes?.[0] })
    const headers = { 'content-type': 'application/json' }
    const verify = new Request('http://service.test/api/totp/verify/', { method: 'POST', headers, body })
    expectUnavailable(await answerOf(await handler(verify)))
    expect(errors).toMatchObject([{ message: 'password of the session database' }])
  })

  test('a user id that is no text is a failure of the host, and shares no row with anybody', async () => {
    for (const id of [7, undefined, null, {}, '', 'x'.repeat(256), 'a\0b', '\ud800']) {
      const errors: unknown[] = []
      const { handler } = await serviceWith(errors, { caller: () => ({ id: id as string, accountName: 'alice' }) })
      for (const [path, method] of [
        ['totp/create', 'POST'],
        ['totp/status', 'GET'],
      ] as const) {
        const answer = await answerOf(await handler(new Request(`http://service.test/api/${path}`, { method })))
        expectUnavailable(answer)
      }
      expect(errors).toEqual([expect.any(TypeError), expect.any(TypeError)])
    }
  })

  test('authenticate', async () => {
    const authenticate = () => Promise.reject(new Error('password of the user database'))
    const service = await startService(FETCH, { tokens: { authenticate } })
    expectUnavailable(await service.post('jwt/create/', { username: 'nobody-here', password: 'wrong horse' }))
    expect(service.errors).toMatchObject([{ message: 'password of the user database' }])
  })
})
