import type { Notification } from 'totp-kit/mail'
import { type AuthenticatorApp, authenticatorFor } from 'totp-kit/testing'
import { expect } from 'vitest'
import type { Person, Service } from './harness.ts'

export interface Session {
  access: string
  refresh: string
}

/** Someone whose second factor is on. */
export interface Enrolled {
  person: Person
  /**
   * The session that switched it on: the access token from before, which knows of a password only, and the refresh token
   * of now.
   */
  session: Session
  /** The same session as confirming has raised it. */
  raised: Session
  phone: AuthenticatorApp
  /** What the phone showed when it was confirmed. */
  confirmingCode: string
  backupCodes: string[]
}

/** Seconds of a time step. */
export const STEP = 30

/** With a password only. */
export async function logIn(service: Service, { username, password }: Person): Promise<Session> {
  const { body } = await service.post('jwt/create/', { username, password })
  expect(body).toMatchObject({ is_totp_enabled: false })
  return sessionIn(body)
}

/** The first of two steps of a login. */
export async function challenge(service: Service, { username, password }: Person): Promise<string> {
  const { body } = await service.post('jwt/create/', { username, password })
  expect(body).toMatchObject({ is_totp_enabled: true })
  return String(body.totp_challenge_token)
}

/** Both steps of a login. */
export async function logInWith(
  service: Service,
  person: Person,
  code: { otp_code: string } | { backup_code: string },
): Promise<Session> {
  const totp_challenge_token = await challenge(service, person)
  const answer = await service.post('jwt/totp/verify/', { totp_challenge_token, ...code })
  expect(answer.outcome).toBe('200')
  return sessionIn(answer.body)
}

/** Both steps, with the phone's next code. */
export function logInWithPhone(service: Service, { person, phone }: Pick<Enrolled, 'person' | 'phone'>) {
  return logInWith(service, person, { otp_code: nextCode(service, phone) })
}

export function sessionIn(body: Record<string, unknown>): Session {
  expect(body).toMatchObject({ access: expect.any(String), refresh: expect.any(String) })
  return { access: String(body.access), refresh: String(body.refresh) }
}

/** Begins an enrollment and scans the picture's text. */
export async function beginEnrollment(
  service: Service,
  bearer: string,
  body?: Record<string, unknown>,
): Promise<AuthenticatorApp> {
  const answer = await service.post('totp/create/', body, bearer)
  expect(answer.outcome).toBe('201')
  return authenticatorFor(String(answer.body.uri))
}

/** Registers someone and switches the second factor on. The confirming code is still on the screen. */
export async function enroll(service: Service, username = 'alice'): Promise<Enrolled> {
  const person = service.register(username)
  const session = await logIn(service, person)
  const phone = await beginEnrollment(service, session.access)
  const confirmingCode = phone.codeAt(service.clock.now())
  const { outcome, body } = await service.post('totp/confirm/', { input_code: confirmingCode }, session.access)
  expect(outcome).toBe('200')
  const raised = 'access' in body ? sessionIn(body) : session
  const { refresh } = raised
  const backupCodes = body.backup_codes as string[]
  return { person, session: { ...session, refresh }, raised, phone, confirmingCode, backupCodes }
}

/** What a mail's link says: behind the `#`, where no server's log sees it. */
export function linkIn(mail: Notification): { uid: string; token: string } {
  if (!('url' in mail)) throw new TypeError(`a mail of the kind ${mail.kind} has no link`)
  const said = new URLSearchParams(new URL(mail.url).hash.slice(1))
  return { uid: String(said.get('uid')), token: String(said.get('token')) }
}

/** Waits until the phone shows another code, and reads it. */
export function nextCode({ clock }: Service, phone: AuthenticatorApp): string {
  clock.advance(STEP)
  return phone.codeAt(clock.now())
}

/** Six digits that the phone shows at no time near now. */
export function wrongCode({ clock }: Service, phone: AuthenticatorApp): string {
  const right = [-2, -1, 0, 1, 2].map((steps) => phone.codeAt(clock.now() + steps * STEP))
  return ['111111', '222222', '333333', '444444', '555555', '666666'].find((code) => !right.includes(code)) ?? ''
}

/** The claims of a JSON Web Token, unchecked. */
export function claimsIn(token: string): Record<string, unknown> {
  return partOf(token, 1)
}

export function headerIn(token: string): Record<string, unknown> {
  return partOf(token, 0)
}

function partOf(token: string, index: 0 | 1): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString()) as Record<string, unknown>
}
