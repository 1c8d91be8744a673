import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import { booleanField, codeField, emailField, names, passwordField, textField, timeField } from './fields.ts'

/** One row of the HTTP API: the only place where an endpoint is declared. */
export interface Endpoint<Body extends z.ZodType = z.ZodType, Reply extends z.ZodType | null = z.ZodType | null> {
  module: 'totp' | 'jwt' | 'recovery'
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** Relative to the mount, without the final slash. A last segment `{id}` is the id of the resource. */
  path: string
  summary: string
  /** `caller`: the host must say who is calling. */
  access: 'caller' | 'anonymous'
  /** True: callers with an enrollment token may use it too. */
  opensToEnrollment?: boolean
  /** True: calls count against the rate limit. Set for every endpoint that accepts a code or password, or is expensive. */
  throttled: boolean
  body: Body
  status: 200 | 201 | 204
  /** Null: the reply has no body. */
  reply: Reply
  /** The error codes of this endpoint, in addition to those of every endpoint. */
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
/** The tokens of the raised session: present if the request proved a code and the session is one of `totp-kit/jwt`. */
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
    summary: 'Start an enrollment: returns a QR code and the secret as text. Requires step-up if 2FA is on',
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
    summary:
      'Confirm the pending enrollment with the first code from the app. The first enrollment returns backup codes',
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
    summary: 'Turn off 2FA. Requires step-up if 2FA is on',
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
    summary: 'Replace the backup codes with new ones. Requires step-up',
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
    summary: 'Record that the user has saved the current backup codes',
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
    summary: 'Get the 2FA status of the user',
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
    summary: 'Verify the second factor again in the current session (step-up)',
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
    summary: 'View the backup codes again. Requires a session with a recently verified second factor',
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
    summary: 'Rename an authenticator',
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
    summary: 'Remove an authenticator. The last one cannot be removed; turn off 2FA instead. Requires step-up',
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
    summary: 'List the trusted devices, newest first. Logging in on one does not require a code',
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
    summary: 'Remove a trusted device. Requires step-up',
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
    summary: 'Remove all trusted devices. Requires step-up',
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
      'Log in with username and password. Returns a token pair, a challenge if 2FA is on, or an enrollment token if 2FA is required but not set up',
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
    summary: 'Answer a challenge with a code from the authenticator app or a backup code',
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
    summary: 'Exchange a refresh token for a new token pair. The old refresh token is revoked',
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
    summary: 'Check whether an access or refresh token is valid',
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
    summary: 'Log out: revoke the whole family of the refresh token',
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
    summary: 'Request a recovery link by email. The response is the same whether or not the account exists',
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
    summary: 'Turn off 2FA with the recovery link and the password',
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
    summary: 'Cancel a recovery. All recovery links, sessions and trusted devices of the user are revoked',
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

/** All error codes of an endpoint: its own, and those that follow from its declaration. */
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
