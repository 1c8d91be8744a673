import type { TrustedDevice } from '../api.ts'
import type { Account } from '../app.ts'
import { withStepUp } from '../dialogs.ts'
import { el, moment } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion } from '../form.ts'

export function trustedDevicesCard(account: Account): HTMLElement {
  const errors = errorRegion()
  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Trusted devices'),
    el('p', {}, 'A log-in on these asks for the password only. Remove the ones that you no longer use.'),
    el(
      'ul',
      { class: 'things', 'data-trusted-devices': true },
      ...account.trustedDevices.map((each) => item(account, each, errors)),
    ),
    errors.element,
  )
}

function item(
  { app }: Account,
  { id, name, last_used_at, expires_at }: TrustedDevice,
  errors: ErrorRegion,
): HTMLElement {
  const called = name ?? 'Device without a name'
  const remove = actionButton({
    action: 'remove-device',
    label: 'Remove',
    busyLabel: 'Removing…',
    errors,
    work: async () => {
      const reason = `To remove “${called}”, enter a code.`
      const call = (code?: string) => app.api.removeTrustedDevice(id, code).then(() => true as const)
      if ((await withStepUp(reason, call)) === null) return
      app.toAccount({ notice: `“${called}” is no longer trusted: the next log-in there asks for a code.` })
    },
  })
  remove.setAttribute('aria-label', `Remove ${called}`)
  return el(
    'li',
    {},
    el(
      'div',
      {},
      el('strong', {}, called),
      el('small', {}, 'Last used ', moment(last_used_at)),
      el('small', {}, 'Trusted until ', moment(expires_at)),
    ),
    remove,
  )
}
