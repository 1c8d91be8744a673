import { authenticatorFor } from 'totp-kit/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Ground, grounds } from './databases.ts'
import { type Answer, type Demo, enrolled, now, registered, startDemo } from './demo-process.ts'

describe.for([
  { on: 'SQLite', workers: 1 },
  { on: 'PostgreSQL', workers: 4 },
  { on: 'MariaDB, with Redis in front', workers: 4 },
] as const)('$workers on $on', ({ on, workers }) => {
  const { isThere, make } = grounds[on]
  describe.skipIf(!isThere)('the demo server', () => {
    let demo: Demo
    let ground: Ground
    beforeAll(async () => {
      ground = await make()
      demo = await startDemo({ ...ground.env, WORKERS: String(workers) })
    })
    afterAll(async () => {
      await demo.remove()
      await ground.drop()
    })

    const statuses = (answers: Answer[], status: number) => answers.filter((answer) => answer.status === status).length
    const codes = (answers: Answer[]) => answers.map((answer) => answer.body.code)
    const times = <T>(n: number, make: (index: number) => Promise<T>): Promise<T[]> =>
      Promise.all(Array.from({ length: n }, (_, index) => make(index)))

    const verify = (body: object) => demo.call('POST', '/api/jwt/totp/verify/', { body })

    test('one code used by 50 parallel requests, each with a challenge of its own, logs in exactly once', async () => {
      const user = await enrolled(demo, 'race-code')
      const challenges = await times(50, user.challenge)
      const otp_code = user.nextCode()

      const answers = await times(50, (i) => verify({ totp_challenge_token: challenges[i], otp_code }))

      expect(statuses(answers, 200)).toBe(1)
      expect(statuses(answers, 500)).toBe(0)
    })

    test('the confirming code never logs in, however many try at once', async () => {
      const user = await enrolled(demo, 'race-confirm')
      const challenges = await times(50, user.challenge)

      const answers = await times(50, (i) =>
        verify({ totp_challenge_token: challenges[i], otp_code: user.confirmingCode }),
      )

      expect(statuses(answers, 200)).toBe(0)
      expect(codes(answers)).toContain('code_already_used')
    })

    test('one backup code used by 50 parallel requests works exactly once', async () => {
      const user = await enrolled(demo, 'race-backup')
      const challenges = await times(50, user.challenge)
      const [backup_code] = user.backupCodes

      const answers = await times(50, (i) => verify({ totp_challenge_token: challenges[i], backup_code }))

      expect(statuses(answers, 200)).toBe(1)
      const status = await demo.call('GET', '/api/totp/status', { bearer: user.access })
      expect(status.body.backup_codes_remaining).toBe(9)
    })

    test('of 200 parallel wrong codes at most 5 are judged before the delay sets in, and a right one is refused then', async () => {
      const user = await enrolled(demo, 'race-guess')
      const totp_challenge_token = await user.challenge()

      const answers = await times(200, () => verify({ totp_challenge_token, otp_code: '000000' }))

      expect(codes(answers).filter((code) => code === 'invalid_code').length).toBeLessThanOrEqual(5)
      expect(codes(answers).filter((code) => code === 'too_many_attempts').length).toBeGreaterThanOrEqual(195)
      const right = await verify({ totp_challenge_token: await user.challenge(), otp_code: user.nextCode() })
      expect(right.body.code).toBe('too_many_attempts')
    })

    test('a challenge token works once, also for two right codes at once', async () => {
      const user = await enrolled(demo, 'race-challenge')
      const totp_challenge_token = await user.challenge()

      const answers = await Promise.all([
        verify({ totp_challenge_token, otp_code: user.nextCode() }),
        ...user.backupCodes.map((backup_code) => verify({ totp_challenge_token, backup_code })),
      ])

      expect(statuses(answers, 200)).toBe(1)
    })

    test('one refresh token used by 20 parallel requests is exchanged at most once, and the family is dead after it', async () => {
      const user = await enrolled(demo, 'race-refresh')

      const answers = await times(20, () => demo.call('POST', '/api/jwt/refresh/', { body: { refresh: user.refresh } }))

      expect(statuses(answers, 200)).toBe(1)
      const winner = answers.find(({ status }) => status === 200)
      const next = await demo.call('POST', '/api/jwt/refresh/', { body: { refresh: winner?.body.refresh } })
      expect(next.body.code).toBe('invalid_token')
    })

    test('ten parallel confirmations with the right code switch 2FA on once, with one set of backup codes', async () => {
      const user = await registered(demo, 'race-activate')
      const setup = await demo.call('POST', '/api/totp/create/', { bearer: user.access })
      const input_code = authenticatorFor(setup.body.uri).codeAt(now())

      const answers = await times(10, () =>
        demo.call('POST', '/api/totp/confirm/', { bearer: user.access, body: { input_code } }),
      )

      expect(statuses(answers, 200)).toBe(1)
    })

    test('an old access token alone can neither disable, rotate, view nor enroll anew', async () => {
      const user = await enrolled(demo, 'old-token')

      const answers = await Promise.all([
        demo.call('POST', '/api/totp/disable/', { bearer: user.access }),
        demo.call('POST', '/api/totp/rotate_backup_codes/', { bearer: user.access }),
        demo.call('GET', '/api/totp/backup_codes/', { bearer: user.access }),
        demo.call('POST', '/api/totp/create/', { bearer: user.access }),
      ])

      expect(codes(answers)).toEqual(Array(4).fill('step_up_required'))
    })
  })
})
