-- Schedules, see contracts/schedules.py. The document is core/schedules.py's; wake_at says when the leader looks at it.
CREATE TABLE {schema}.schedules (
    name text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    wake_at double precision,
    data text NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX schedules_by_wake ON {schema}.schedules (wake_at) WHERE wake_at IS NOT NULL;

-- Whether the row followed from the one that was there; revision 1 adds it.
CREATE FUNCTION {schema}.put_schedule_1(p_name text, p_revision bigint, p_wake double precision, p_data text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.durably_1();
    IF p_revision = 1 THEN
        INSERT INTO {schema}.schedules (name, revision, wake_at, data) VALUES (p_name, 1, p_wake, p_data)
            ON CONFLICT (name) DO NOTHING;
    ELSE
        UPDATE {schema}.schedules SET revision = p_revision, wake_at = p_wake, data = p_data
            WHERE name = p_name AND revision = p_revision - 1;
    END IF;
    RETURN FOUND;
END $$;

CREATE FUNCTION {schema}.remove_schedule_1(p_name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.durably_1();
    DELETE FROM {schema}.schedules WHERE name = p_name;
    RETURN FOUND;
END $$;

-- A decision of the leader with the run that it starts. The fence and the term are held until the end of the transaction.
CREATE FUNCTION {schema}.fire_1(
    p_authority text, p_term bigint, p_name text, p_revision bigint, p_schedule_wake double precision, p_data text,
    p_node text, p_epoch bigint,
    p_event_run text[], p_event_seq integer[], p_event_data text[],
    p_run text[], p_state text[], p_last_seq integer[], p_total integer[], p_done integer[], p_failed integer[],
    p_ended double precision[], p_error text[], p_wake double precision[], p_release boolean[],
    p_inbox_done bigint[],
    n_run text[], n_workflow text[], n_version text[], n_state text[], n_created double precision[],
    n_ended double precision[], n_trigger text[], n_parent text[], n_error text[], n_total integer[], n_done integer[],
    n_failed integer[], n_last_seq integer[], n_owner text[], n_wake double precision[], n_key text[], n_tags text[],
    n_params text[], n_attributes text[],
    p_tag_run text[], p_tag_key text[], p_tag_value text[],
    p_attr_run text[], p_attr_seq integer[], p_attr_json text[],
    p_item_run text[], p_item_name text[], p_item_kind text[], p_item_text text[], p_item_number double precision[]
) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM {schema}.fence_1(p_node, p_epoch);
    PERFORM {schema}.check_term_1(p_authority, p_term);
    PERFORM {schema}.durably_1();
    UPDATE {schema}.schedules SET revision = p_revision, wake_at = p_schedule_wake, data = p_data
        WHERE name = p_name AND revision = p_revision - 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM {schema}.flush_more_1(p_node, p_epoch, p_event_run, p_event_seq, p_event_data, p_run, p_state, p_last_seq,
        p_total, p_done, p_failed, p_ended, p_error, p_wake, p_release, p_inbox_done, n_run, n_workflow, n_version,
        n_state, n_created, n_ended, n_trigger, n_parent, n_error, n_total, n_done, n_failed, n_last_seq, n_owner, n_wake,
        n_key, n_tags, n_params, n_attributes, p_tag_run, p_tag_key, p_tag_value, p_attr_run, p_attr_seq, p_attr_json,
        p_item_run, p_item_name, p_item_kind, p_item_text, p_item_number);
    RETURN true;
END $$;
