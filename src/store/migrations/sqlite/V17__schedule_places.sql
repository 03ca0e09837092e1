-- Where a schedule stands among those of its tenant, from 1 on: they are read in pages.
alter table schedules add column place integer not null default 0;
update schedules set place = numbered.place
    from (select id, row_number() over (partition by tenant order by created_at, id) as place from schedules) as numbered
    where numbered.id = schedules.id;
drop index schedules_of_tenant;
create unique index schedules_of_tenant on schedules (tenant, place);

-- What waits, and leaves a session first: it is counted with what else waits, whenever something is added.
create index queue_leaving on queue (tenant) where status = 'pending' and leaves is not null;
-- Whether all items of a schedule are over is asked whenever it fires.
create index queue_of_schedule_open on queue (schedule) where schedule is not null and status in ('pending', 'processing');
