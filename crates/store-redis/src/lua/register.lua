local function register(name, callback, flags)
  local function run(keys, args)
    call = redis.call
    return callback(keys, args)
  end
  redis.register_function({ function_name = name .. '_VERSION', callback = run, flags = flags })
end

-- Endings and renewals go on while memory is short: the caller refuses submissions before that.
register('pointsman_commit', commit, { 'allow-oom' })
register('pointsman_hear', hear, { 'allow-oom' })
register('pointsman_open', open, { 'allow-oom' })
register('pointsman_contact', contact, { 'allow-oom' })
register('pointsman_load', load, { 'no-writes' })
register('pointsman_ask_replicas', ask_replicas, { 'allow-oom' })
register('pointsman_serve', serve, { 'allow-oom' })
register('pointsman_wait', wait, { 'allow-oom' })
register('pointsman_pass_on', pass_on, { 'allow-oom' })
register('pointsman_rewrite', rewrite, { 'allow-oom' })
register('pointsman_set_aside', set_aside, { 'allow-oom' })
register('pointsman_delete_asides', delete_asides, { 'allow-oom' })
register('pointsman_forget_asides', forget_asides, { 'allow-oom' })
register('pointsman_reindex', reindex, { 'allow-oom' })
-- A picture is worth no memory that endings need.
register('pointsman_keep_preview', keep_preview, {})
register('pointsman_first_waiting', first_waiting, { 'no-writes' })
register('pointsman_set_intake', set_intake, { 'allow-oom' })
register('pointsman_begin_import', begin_import, { 'allow-oom' })
register('pointsman_finish_import', finish_import, { 'allow-oom' })
register('pointsman_seize_import', seize_import, { 'allow-oom' })
register('pointsman_clear_import', clear_import, { 'allow-oom' })
register('pointsman_reset', reset, { 'allow-oom' })
register('pointsman_idempotency', idempotency, { 'no-writes' })
