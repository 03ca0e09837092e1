-- How many refused acts of the same principal before this entry were not written down.
alter table audit add column unwritten integer not null default 0;
