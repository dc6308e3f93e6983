-- {people} accounts with credits and one image each. Account and image number n have the id n in hexadecimal.
insert into auth.users (id, email)
select lpad(to_hex(n), 32, '0')::uuid, 'person-' || n || '@example.test'
from generate_series(1, {people}) as n;

select count(public.add_user_credits(lpad(to_hex(n), 32, '0')::uuid, 1000000, 'purchase'))
from generate_series(1, {people}) as n;

insert into public.images (id, user_id, original_filename, original_url)
select id, id, 'shirt.png', 'originals/' || id || '/shirt.png'
from (select lpad(to_hex(n), 32, '0')::uuid as id from generate_series(1, {people}) as n) as people;
