import type { CodeKind } from './api.ts'
import { el } from './dom.ts'
import { type Field, field } from './form.ts'
import { type Words, WRONG_BACKUP_CODE } from './wording.ts'

const MODES = {
  otp_code: {
    label: 'Code from your app',
    hint: 'The six digits that your authenticator app shows now.',
    inputmode: 'numeric',
    autocomplete: 'one-time-code',
    other: { action: 'use-backup-code', label: 'Use a backup code instead' },
  },
  backup_code: {
    label: 'Backup code',
    hint: 'One of the codes that you saved when you set this up. It is used up by this.',
    inputmode: 'text',
    autocomplete: 'off',
    other: { action: 'use-app-code', label: 'Use the app instead' },
  },
} as const

export interface CodeField extends Field {
  /** What was typed, as the server takes it: it forgives spaces and hyphens. */
  code(): string
  /** What it looks like. A backup code typed where the app's was asked for is still a backup code. */
  kind(): CodeKind
  /** Between the app and the backup codes. */
  readonly switcher: HTMLButtonElement
  /** How refusals are worded for the kind that was sent. */
  words(): Record<string, Words>
}

/** One field for a code, not six boxes: it can be pasted into, filled in by the browser, and read out as one. */
export function codeField(): CodeField {
  let mode: CodeKind = 'otp_code'
  const base = field({ name: 'code', label: '', check, attributes: { class: 'code', enterkeyhint: 'go' } })
  const { input } = base
  const switcher = el('button', {
    type: 'button',
    class: 'quiet',
    onclick: () => {
      mode = mode === 'otp_code' ? 'backup_code' : 'otp_code'
      dress()
      input.value = ''
      // Tells the form that its last answer is stale; a true reset would take back what else was chosen in it.
      input.form?.dispatchEvent(new Event('reset'))
      input.focus()
    },
  })

  function dress(): void {
    const { label, hint, inputmode, autocomplete, other } = MODES[mode]
    base.label.textContent = label
    base.hint.textContent = hint
    input.setAttribute('inputmode', inputmode)
    input.setAttribute('autocomplete', autocomplete)
    switcher.textContent = other.label
    switcher.setAttribute('data-action', other.action)
  }

  /** What cannot be a code is not sent: it would count as a wrong one. */
  function check(): string | null {
    if (mode === 'backup_code' || looksLikeAppCode(bare()) || looksLikeBackupCode(bare())) return null
    return 'A code from the app has six digits. Check what you typed.'
  }

  function kind(): CodeKind {
    if (looksLikeAppCode(bare())) return 'otp_code'
    return 'backup_code'
  }

  function bare(): string {
    return input.value.normalize('NFKC').replace(/[\s\p{Pd}]/gu, '')
  }

  function words(): Record<string, Words> {
    const tooMany = (wait: string) => `Too many wrong codes. You can try again ${wait}.`
    if (kind() === 'backup_code') return { invalid_code: WRONG_BACKUP_CODE, too_many_attempts: tooMany }
    return { too_many_attempts: (wait) => `${tooMany(wait)} If you have a backup code, it works in the meantime.` }
  }

  dress()
  return { ...base, code: () => input.value.trim(), kind, switcher, words }
}

function looksLikeAppCode(bare: string): boolean {
  return /^\d{6}$/.test(bare)
}

function looksLikeBackupCode(bare: string): boolean {
  return bare.length >= 10
}
