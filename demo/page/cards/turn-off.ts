import type { Account } from '../app.ts'
import { deliberately } from '../deliberate.ts'
import { el } from '../dom.ts'
import { actionButton, errorRegion } from '../form.ts'

export function turnOffCard({ app, me }: Account): HTMLElement {
  const errors = errorRegion()
  const disable = actionButton({
    action: 'disable',
    label: 'Turn off',
    busyLabel: 'Turning off…',
    class: 'danger',
    errors,
    work: async () => {
      const deed = {
        question: 'Turn off two-factor authentication?',
        consequence: 'Your password alone will be enough to log in, and your backup codes stop working.',
        action: 'confirm-disable',
        label: 'Turn off',
        reason:
          'To turn off two-factor authentication, enter a code. Your password alone will be enough to log in then.',
      }
      const off = await deliberately(me, deed, app.api.disable)
      if (off !== null) app.toAccount({ notice: 'Two-factor authentication is off. Your backup codes no longer work.' })
    },
  })
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Turn off two-factor authentication'),
    el(
      'p',
      {},
      'Your password alone will be enough to log in. Authenticators, backup codes and trusted devices are removed.',
    ),
    errors.element,
    el('div', { class: 'actions' }, disable),
  )
}
