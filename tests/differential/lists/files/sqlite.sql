create table t(id integer, a text, b text, c integer);
insert into t values(1,'one','Mister "X" \ y',1),(2,'back\slash',NULL,2),(3,'','"q',3),(4,'line
break','tab	x',NULL),(5,'it''s','plain',5);
create table d(domain text);
insert into d values('db.example');
