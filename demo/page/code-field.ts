import type { CodeKind } from './api.ts'
import { el } from './dom.ts'
import { type Field, field } from './form.ts'
import type { Refusal } from './refusal.ts'
import { isLocked, type Words, WRONG_BACKUP_CODE } from './wording.ts'

export interface CodeFieldOptions {
  /** Of a code from the app, as the server says. */
  digits: number
  acceptsBackupCode: boolean
  /** Sends a complete code by itself, each one once. Not for what cannot be undone. */
  sendsItself: boolean
}

export interface CodeField extends Field {
  /** What was typed. The server ignores spaces and hyphens. */
  code(): string
  /** What it looks like. A backup code typed where the app's was asked for is still a backup code. */
  kind(): CodeKind
  /** Between the app and the backup codes. */
  readonly switcher: HTMLButtonElement
  /** Follows a refusal: where one kind of code is locked, the other is asked for. */
  refused(refusal: Refusal): void
  /** How refusals are worded for the kind that was sent. */
  words(): Record<string, Words>
}

/** One field for a code, not six boxes: it can be pasted into, filled in by the browser, and read out as one. */
export function codeField({ digits, acceptsBackupCode, sendsItself }: CodeFieldOptions): CodeField {
  const modes = {
    otp_code: {
      label: 'Code from your authenticator app',
      hint: `${digits} digits, for example ${example(digits)}.${sendsItself ? ' A complete code is sent automatically.' : ''}`,
      inputmode: 'numeric',
      autocomplete: 'one-time-code',
      switcher: { action: 'use-backup-code', label: 'Use a backup code' },
    },
    backup_code: {
      label: 'Backup code',
      hint: 'One of the backup codes that you saved. Each code works once.',
      inputmode: 'text',
      autocomplete: 'off',
      switcher: { action: 'use-app-code', label: 'Use your authenticator app' },
    },
  } as const
  let mode: CodeKind = 'otp_code'
  let sent: { kind: CodeKind; code: string } | null = null
  const locked = new Set<CodeKind>()
  const empty = 'Enter a code.'
  const base = field({ name: 'code', label: '', empty, check, attributes: { class: 'code', enterkeyhint: 'go' } })
  const { input } = base
  const switcher = el('button', { type: 'button', class: 'quiet', onclick: () => become(otherThan(mode)) })

  input.addEventListener('input', (event) => {
    if (!sendsItself || (event as InputEvent).isComposing || mode !== 'otp_code') return
    if (isAppCode() && bare() !== sent?.code) input.form?.requestSubmit()
  })

  function become(kind: CodeKind): void {
    mode = kind
    dress()
    input.value = ''
    // Tells the form that its last answer is stale; a true reset would undo what else was chosen in it.
    input.form?.dispatchEvent(new Event('reset'))
    input.focus()
  }

  function dress(): void {
    const { label, hint, inputmode, autocomplete, switcher: next } = modes[mode]
    base.label.textContent = label
    base.hint.textContent = hint
    input.setAttribute('inputmode', inputmode)
    input.setAttribute('autocomplete', autocomplete)
    switcher.hidden = !acceptsBackupCode
    switcher.textContent = next.label
    switcher.setAttribute('data-action', next.action)
  }

  /** What cannot be a code is not sent: it would count as a wrong one. */
  function check(): string | null {
    if (mode === 'backup_code' || isAppCode() || (acceptsBackupCode && isBackupCode())) return null
    return `A code from the app has ${digits} digits. Check what you typed.`
  }

  function kind(): CodeKind {
    return isAppCode() ? 'otp_code' : 'backup_code'
  }

  function bare(): string {
    return input.value.normalize('NFKC').replace(/[\s\p{Pd}]/gu, '')
  }

  function isAppCode(): boolean {
    return bare().length === digits && /^\d+$/.test(bare())
  }

  /** One character too many is a slip. */
  function isBackupCode(): boolean {
    return bare().length > digits + 1
  }

  function code(): string {
    sent = { kind: kind(), code: bare() }
    return input.value.trim()
  }

  function refused(refusal: Refusal): void {
    if (sent === null || !isLocked(refusal)) return
    locked.add(sent.kind)
    const rest = otherThan(sent.kind)
    if (acceptsBackupCode && !locked.has(rest)) become(rest)
  }

  function words(): Record<string, Words> {
    const tooMany = (wait: string) => `Too many incorrect codes. You can try again ${wait}.`
    if (sent?.kind === 'backup_code') {
      const second_factor_locked = locked.has('otp_code')
        ? BOTH_LOCKED
        : 'Backup codes are locked after too many incorrect attempts. Use your authenticator app, or contact support.'
      return { invalid_code: WRONG_BACKUP_CODE, too_many_attempts: tooMany, second_factor_locked }
    }
    if (!acceptsBackupCode) return {}
    return {
      too_many_attempts: (wait) => `${tooMany(wait)} In the meantime, you can use a backup code.`,
      second_factor_locked: locked.has('backup_code')
        ? BOTH_LOCKED
        : 'Codes from your authenticator app are locked after too many incorrect attempts. Use a backup code, or contact support.',
    }
  }

  dress()
  return { ...base, code, kind, switcher, refused, words }
}

const BOTH_LOCKED = 'All codes are locked after too many incorrect attempts. Contact support.'

function otherThan(kind: CodeKind): CodeKind {
  return kind === 'otp_code' ? 'backup_code' : 'otp_code'
}

/** “123 456”, in as many digits as a code has. */
function example(digits: number): string {
  const numbers = '12345678'.slice(0, digits)
  const half = Math.ceil(digits / 2)
  return `${numbers.slice(0, half)} ${numbers.slice(half)}`
}
