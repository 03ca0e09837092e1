-- The place of what is done in a trace, as "traceparent tracestate"; null where none is kept. Of a turn, the one
-- of its own span, behind the id of the span that it is a part of.
alter table turns add column trace text;
-- Of whoever queued it.
alter table queue add column trace text;
