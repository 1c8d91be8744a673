import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import { booleanField, codeField, emailField, names, passwordField, textField, timeField } from './fields.ts'

/** One row of the wire: the only place where an endpoint is declared. */
export interface Endpoint<Body extends z.ZodType = z.ZodType, Reply extends z.ZodType | null = z.ZodType | null> {
  module: 'totp' | 'jwt' | 'recovery'
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** Relative to the mount, without the final slash. A last segment `{id}` stands for the id of what is meant. */
  path: string
  summary: string
  /** `caller`: the host must say who is calling. */
  access: 'caller' | 'anonymous'
  /** True: also for a caller who holds an enrollment token and may do nothing else. */
  opensToEnrollment?: boolean
  /** Counted against the rate of calls: whatever takes a code, a password or work. */
  throttled: boolean
  body: Body
  status: 200 | 201 | 204
  /** Null: the reply has no body. */
  reply: Reply
  /** What this endpoint refuses with, beside what every endpoint may. */
  refusals: readonly ErrorCode[]
}

function endpoint<Body extends z.ZodType, Reply extends z.ZodType | null>(row: Endpoint<Body, Reply>) {
  return row
}

/** Names a schema in the OpenAPI document, so that generated clients have a type for it. */
function named<Schema extends z.ZodType>(id: string, schema: Schema): Schema {
  names.add(schema, { id })
  return schema
}

const nothing = z.object({})
const tokenPair = named('TokenPair', z.object({ access: z.string(), refresh: z.string() }))
/** Where the request proved a code and the session's tokens are ours: the tokens of the raised session. */
const raised = { access: z.string().optional(), refresh: z.string().optional() }
const authenticator = named(
  'Authenticator',
  z.object({
    id: z.string(),
    name: z.string().nullable(),
    created_at: timeField(),
    last_used_at: timeField().nullable(),
  }),
)
const methods = z.array(z.enum(['totp', 'backup_code']))
const setup = named(
  'Setup',
  z.object({
    svg: z.string(),
    uri: z.string(),
    secret: z.string(),
    expires_in: z.int(),
    digits: z.int(),
    period: z.int(),
    algorithm: z.enum(['SHA1', 'SHA256', 'SHA512']),
    issuer: z.string(),
    account_name: z.string(),
    replaces: z.object({ id: z.string(), name: z.string().nullable() }).nullable(),
    ...raised,
  }),
)
const status = named(
  'Status',
  z.object({
    is_totp_enabled: z.boolean(),
    confirmed_at: timeField().nullable(),
    backup_codes_remaining: z.int(),
    backup_codes_saved_at: timeField().nullable(),
    authenticators: z.array(authenticator),
    pending: z.object({ expires_in: z.int() }).nullable(),
    trusted_devices: z.int(),
    locked_until: timeField().nullable(),
    policy: named(
      'Policy',
      z.object({
        max_authenticators: z.int(),
        digits: z.int(),
        period: z.int(),
        step_up_seconds: z.int().nullable(),
        trusted_device_days: z.int().nullable(),
        backup_codes_total: z.int(),
        backup_codes_viewable: z.boolean(),
      }),
    ),
  }),
)
const trustedDevice = named(
  'TrustedDevice',
  z.object({
    id: z.string(),
    name: z.string().nullable(),
    created_at: timeField(),
    last_used_at: timeField(),
    expires_at: timeField(),
    is_current: z.boolean(),
  }),
)
const loggedIn = named(
  'LoggedIn',
  tokenPair.extend({ is_totp_enabled: z.literal(false), trusted_device: z.string().optional() }),
)
const challenge = named(
  'Challenge',
  z.object({
    is_totp_enabled: z.literal(true),
    totp_challenge_token: z.string(),
    expires_in: z.int(),
    methods,
    digits: z.int(),
    trusted_device_days: z.int().nullable(),
  }),
)
const enrollmentRequired = named(
  'EnrollmentRequired',
  z.object({
    is_totp_enabled: z.literal(false),
    must_enroll: z.literal(true),
    enrollment_token: z.string(),
    expires_in: z.int(),
  }),
)
const either = z.object({ otp_code: codeField().optional(), backup_code: codeField().optional() })
const exactlyOneCode = ({ otp_code, backup_code }: z.output<typeof either>) =>
  (otp_code === undefined) !== (backup_code === undefined)
/** {@link exactlyOneCode} in the words of JSON Schema. */
const exactlyOne = <Schema extends z.ZodType>(schema: Schema) => {
  names.add(schema, { oneOf: [{ required: ['otp_code'] }, { required: ['backup_code'] }] })
  return schema
}
const EITHER = { message: 'Send either otp_code or backup_code, but not both.', path: ['otp_code'] }
const stepUp = z.object({ input_code: codeField().optional() })
const judged = ['invalid_code', 'code_already_used', 'too_many_attempts', 'second_factor_locked'] as const

export const endpoints = {
  createTotpSetup: endpoint({
    module: 'totp',
    method: 'POST',
    path: 'totp/create',
    summary: 'Begin an enrollment: a QR code to scan, and the same in letters. While 2FA is on, needs step-up',
    access: 'caller',
    opensToEnrollment: true,
    throttled: true,
    body: stepUp.extend({ name: textField(64).optional(), resume: booleanField().optional() }),
    status: 201,
    reply: setup,
    refusals: ['step_up_required', ...judged],
  }),
  confirmTotpSetup: endpoint({
    module: 'totp',
    method: 'POST',
    path: 'totp/confirm',
    summary: 'Confirm the pending enrollment with the first code of the app; hands out the backup codes',
    access: 'caller',
    opensToEnrollment: true,
    throttled: true,
    body: z.object({ input_code: codeField() }),
    status: 200,
    reply: named('Confirmation', z.object({ backup_codes: z.array(z.string()).nullable(), ...raised })),
    refusals: ['invalid_code', 'totp_not_set_up', 'totp_already_enabled', 'too_many_attempts', 'second_factor_locked'],
  }),
  disableTotp: endpoint({
    module: 'totp',
    method: 'POST',
    path: 'totp/disable',
    summary: 'Switch 2FA off. Needs step-up once 2FA is on',
    access: 'caller',
    throttled: true,
    body: stepUp,
    status: 204,
    reply: null,
    refusals: ['step_up_required', 'totp_not_set_up', ...judged],
  }),
  rotateBackupCodes: endpoint({
    module: 'totp',
    method: 'POST',
    path: 'totp/rotate_backup_codes',
    summary: 'New backup codes in the place of the old ones. Needs step-up',
    access: 'caller',
    throttled: true,
    body: stepUp,
    status: 200,
    reply: named('BackupCodes', z.object({ backup_codes: z.array(z.string()), ...raised })),
    refusals: ['step_up_required', 'totp_not_set_up', 'totp_not_enabled', ...judged],
  }),
  backupCodesSaved: endpoint({
    module: 'totp',
    method: 'POST',
    path: 'totp/backup_codes_saved',
    summary: 'Say that the current backup codes are kept',
    access: 'caller',
    throttled: false,
    body: nothing,
    status: 204,
    reply: null,
    refusals: ['totp_not_set_up', 'totp_not_enabled'],
  }),
  getStatus: endpoint({
    module: 'totp',
    method: 'GET',
    path: 'totp/status',
    summary: 'What is on',
    access: 'caller',
    opensToEnrollment: true,
    throttled: false,
    body: nothing,
    status: 200,
    reply: status,
    refusals: [],
  }),
  verifySecondFactor: endpoint({
    module: 'totp',
    method: 'POST',
    path: 'totp/verify',
    summary: 'Prove the second factor within a session: step-up for hosts with sessions',
    access: 'caller',
    throttled: true,
    body: exactlyOne(either.refine(exactlyOneCode, EITHER)),
    status: 200,
    reply: named('Verification', z.object({ verified_at: timeField(), amr: z.array(z.string()), ...raised })),
    refusals: ['totp_not_set_up', 'totp_not_enabled', ...judged],
  }),
  listBackupCodes: endpoint({
    module: 'totp',
    method: 'GET',
    path: 'totp/backup_codes',
    summary: 'View the backup codes again. Needs a session with a fresh second factor',
    access: 'caller',
    throttled: false,
    body: nothing,
    status: 200,
    reply: named(
      'ViewedBackupCodes',
      z.object({ backup_codes: z.array(z.object({ code: z.string(), used_at: timeField().nullable() })) }),
    ),
    refusals: ['step_up_required', 'totp_not_set_up', 'totp_not_enabled', 'not_found'],
  }),
  renameAuthenticator: endpoint({
    module: 'totp',
    method: 'PATCH',
    path: 'totp/authenticators/{id}',
    summary: 'Give an authenticator another name',
    access: 'caller',
    throttled: false,
    body: z.object({ name: textField(64) }),
    status: 200,
    reply: authenticator,
    refusals: ['not_found'],
  }),
  removeAuthenticator: endpoint({
    module: 'totp',
    method: 'DELETE',
    path: 'totp/authenticators/{id}',
    summary: 'Remove one authenticator of several; the last one cannot be removed this way. Needs step-up',
    access: 'caller',
    throttled: true,
    body: stepUp,
    status: 204,
    reply: null,
    refusals: ['step_up_required', 'not_found', 'totp_not_set_up', ...judged],
  }),
  listTrustedDevices: endpoint({
    module: 'totp',
    method: 'GET',
    path: 'totp/trusted_devices',
    summary: 'The devices on which no code is asked for at log-in, the newest first',
    access: 'caller',
    throttled: false,
    body: nothing,
    status: 200,
    reply: z.object({ trusted_devices: z.array(trustedDevice) }),
    refusals: [],
  }),
  removeTrustedDevice: endpoint({
    module: 'totp',
    method: 'DELETE',
    path: 'totp/trusted_devices/{id}',
    summary: 'End a trusted device. Needs step-up',
    access: 'caller',
    throttled: true,
    body: stepUp,
    status: 204,
    reply: null,
    refusals: ['step_up_required', 'not_found', ...judged],
  }),
  removeTrustedDevices: endpoint({
    module: 'totp',
    method: 'DELETE',
    path: 'totp/trusted_devices',
    summary: 'End all trusted devices. Needs step-up',
    access: 'caller',
    throttled: true,
    body: stepUp,
    status: 204,
    reply: null,
    refusals: ['step_up_required', ...judged],
  }),
  createTokens: endpoint({
    module: 'jwt',
    method: 'POST',
    path: 'jwt/create',
    summary:
      'Log in with user name and password: a token pair; a challenge where 2FA is on; a token for enrollment only where it must be',
    access: 'anonymous',
    throttled: true,
    body: z.object({ username: textField(255), password: passwordField(), trusted_device: textField(4096).optional() }),
    status: 200,
    reply: named('Login', z.union([loggedIn, challenge, enrollmentRequired])),
    refusals: ['invalid_credentials'],
  }),
  answerChallenge: endpoint({
    module: 'jwt',
    method: 'POST',
    path: 'jwt/totp/verify',
    summary: 'Answer a challenge with a code of the authenticator app or with a backup code',
    access: 'anonymous',
    throttled: true,
    body: exactlyOne(
      either
        .extend({
          totp_challenge_token: textField(4096),
          trust_device: booleanField().optional(),
          device_name: textField(64).optional(),
        })
        .refine(exactlyOneCode, EITHER),
    ),
    status: 200,
    reply: named(
      'SecondFactorLogin',
      tokenPair.extend({ backup_codes_remaining: z.int().optional(), trusted_device: z.string().optional() }),
    ),
    refusals: ['challenge_invalid', ...judged],
  }),
  refreshTokens: endpoint({
    module: 'jwt',
    method: 'POST',
    path: 'jwt/refresh',
    summary: 'A new token pair for a refresh token, which is dead from then on',
    access: 'anonymous',
    throttled: false,
    body: z.object({ refresh: textField(4096) }),
    status: 200,
    reply: tokenPair,
    refusals: ['invalid_token'],
  }),
  verifyToken: endpoint({
    module: 'jwt',
    method: 'POST',
    path: 'jwt/verify',
    summary: 'Ask whether an access or refresh token is good',
    access: 'anonymous',
    throttled: false,
    body: z.object({ token: textField(4096) }),
    status: 200,
    reply: nothing,
    refusals: ['invalid_token'],
  }),
  logout: endpoint({
    module: 'jwt',
    method: 'POST',
    path: 'jwt/logout',
    summary: 'Log out: the refresh token and its whole family are dead',
    access: 'anonymous',
    throttled: false,
    body: z.object({ refresh: textField(4096) }),
    status: 204,
    reply: null,
    refusals: ['invalid_token'],
  }),
  requestRecovery: endpoint({
    module: 'recovery',
    method: 'POST',
    path: 'totp/recovery',
    summary: 'Ask for a link by mail that switches 2FA off. The answer is the same whatever is true',
    access: 'anonymous',
    throttled: true,
    body: z.object({ email: emailField() }),
    status: 200,
    reply: z.object({ details: z.string() }),
    refusals: [],
  }),
  confirmRecovery: endpoint({
    module: 'recovery',
    method: 'POST',
    path: 'totp/recovery_confirm',
    summary: 'Switch 2FA off with the link and the password',
    access: 'anonymous',
    throttled: true,
    body: z.object({ uid: textField(1400), token: textField(4096), password: passwordField() }),
    status: 204,
    reply: null,
    refusals: ['recovery_link_invalid', 'invalid_credentials', 'too_many_attempts', 'second_factor_locked'],
  }),
  cancelRecovery: endpoint({
    module: 'recovery',
    method: 'POST',
    path: 'totp/recovery_cancel',
    summary: 'Say that it was somebody else who asked: all links die, and the sessions of the user',
    access: 'anonymous',
    throttled: true,
    body: z.object({ uid: textField(1400), token: textField(4096) }),
    status: 204,
    reply: null,
    refusals: ['recovery_link_invalid'],
  }),
}

export type OperationId = keyof typeof endpoints
export type BodyOf<Id extends OperationId> = z.output<(typeof endpoints)[Id]['body']>
export type ReplyOf<Id extends OperationId> = (typeof endpoints)[Id]['reply'] extends z.ZodType
  ? z.input<(typeof endpoints)[Id]['reply']>
  : null

/** Everything that an endpoint may refuse with: its own, and what follows from how it is declared. */
export function refusalsOf(row: Endpoint): readonly ErrorCode[] {
  return [
    ...row.refusals,
    ...(row.method !== 'GET'
      ? (['validation_failed', 'malformed_json', 'unsupported_media_type', 'payload_too_large'] as const)
      : []),
    ...(row.access === 'caller' ? (['unauthenticated'] as const) : []),
    ...(row.throttled ? (['throttled'] as const) : []),
    'unavailable',
  ]
}
