import type { KeptCode } from '../api.ts'
import type { App, Occasion, View } from '../app.ts'
import { copyButton } from '../copy-button.ts'
import { day, el, moment, newId } from '../dom.ts'
import { actionButton, errorRegion } from '../form.ts'

interface Given {
  codes: KeptCode[]
  username: string
  occasion: Occasion
}

const WORDS: Record<Occasion, { intro: string; notice: string }> = {
  'set-up': {
    intro:
      'Two-factor authentication is on. Save these codes now. You need them when your phone is lost, broken, or stolen.',
    notice: 'Two-factor authentication is on.',
  },
  rotated: {
    intro: 'These codes replace the old ones, which no longer work.',
    notice: 'You have new backup codes. The old ones no longer work.',
  },
  viewed: { intro: 'These are your backup codes. A used code does not work again.', notice: '' },
  unsaved: { intro: 'These are your backup codes. Save them now.', notice: 'Your backup codes are saved.' },
}

/** Unless the codes were saved before, this view stays until the person has kept them somewhere. */
export function backupCodesView(app: App, { codes, username, occasion }: Given): View {
  const { intro, notice } = WORDS[occasion]
  const isSavedBefore = occasion === 'viewed'
  let isKept = isSavedBefore
  let isDone = false
  const heading = el('h1', { tabindex: '-1' }, 'Your backup codes')
  const list = el('ol', { class: 'codes', 'data-backup-codes': true }, ...codes.map(codeItem))
  const usable = codes.filter(({ used_at }) => used_at === null).map(({ code }) => code)
  const errors = errorRegion()

  const tick = el('input', {
    type: 'checkbox',
    id: newId(),
    name: 'kept',
    onchange: () => {
      isKept = tick.checked
      open()
    },
  })
  const done = actionButton({
    action: 'saved',
    label: isSavedBefore ? 'Done' : 'Continue',
    busyLabel: 'Saving…',
    class: 'primary',
    errors,
    work: async () => {
      if (!isKept) return errors.say('Copy, download, or print the codes first, or check the box.')
      if (!isSavedBefore) await app.api.backupCodesSaved()
      isDone = true
      app.toAccount({ notice })
    },
  })

  function keep(): void {
    isKept = true
    tick.checked = true
    open()
  }

  function open(): void {
    done.setAttribute('aria-disabled', String(!isKept))
    if (isKept) errors.clear()
  }

  open()
  return {
    name: 'backup-codes',
    title: 'Your backup codes',
    holdsBack: () => {
      const isUnsafe = !isDone && !isKept
      if (isUnsafe) errors.say('Save your backup codes before you leave this page.')
      return isUnsafe
    },
    content: [
      el(
        'section',
        { class: 'card' },
        heading,
        el('p', { class: 'unprinted' }, intro),
        el(
          'p',
          { class: 'printed' },
          `Backup codes of ${username} for totp-kit demo (${location.host}), `,
          day(new Date().toISOString()),
          '. Each code works once: check it off when you have used it.',
        ),
        list,
        el(
          'div',
          { class: 'actions' },
          copyButton({ action: 'copy-codes', label: 'Copy codes', text: usable.join('\n'), shown: list, onCopy: keep }),
          el(
            'button',
            {
              type: 'button',
              'data-action': 'download-codes',
              onclick: () => {
                download(asText(usable, username), `totp-kit-demo-backup-codes-${username}.txt`)
                keep()
              },
            },
            'Download codes',
          ),
          el(
            'button',
            {
              type: 'button',
              'data-action': 'print-codes',
              onclick: () => {
                print()
                keep()
              },
            },
            'Print codes',
          ),
        ),
        el(
          'p',
          { class: 'unprinted' },
          'You can use each code once, instead of a code from your app. Keep them where you can find them without your phone, for example in a password manager or on paper in a safe place.',
        ),
        isSavedBefore
          ? null
          : el('div', { class: 'with-box unprinted' }, tick, el('label', { for: tick.id }, 'I have saved these codes')),
        errors.element,
        el('div', { class: 'actions' }, done),
      ),
    ],
    focus: heading,
  }
}

function codeItem({ code, used_at }: KeptCode): HTMLElement {
  if (used_at === null) return el('li', {}, el('code', {}, code))
  return el('li', { class: 'used' }, el('s', {}, el('code', {}, code)), ' ', el('small', {}, 'Used ', moment(used_at)))
}

function asText(codes: string[], username: string): string {
  return [
    `Backup codes of ${username} for totp-kit demo (${location.host})`,
    'Each code works once.',
    '',
    ...codes,
    '',
  ].join('\r\n')
}

function download(text: string, name: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
  el('a', { href: address, download: name.replace(/[^\p{L}\p{N}.-]+/gu, '-') }).click()
  // The browser reads the blob after the click; a moment later it has it.
  setTimeout(() => URL.revokeObjectURL(address), 10_000)
}
