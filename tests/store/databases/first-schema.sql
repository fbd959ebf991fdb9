BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE audit_entry (
	project TEXT NOT NULL, 
	sequence INTEGER NOT NULL, 
	environment TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject_kind TEXT NOT NULL, 
	subject_key TEXT NOT NULL, 
	"before" TEXT, 
	"after" TEXT, 
	reason TEXT NOT NULL, 
	cause TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	previous_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	CONSTRAINT pk_audit_entry PRIMARY KEY (project, sequence), 
	CONSTRAINT fk_audit_entry_project FOREIGN KEY(project) REFERENCES project ("key")
);
INSERT INTO "audit_entry" VALUES('default',1,'',0,'cli:root','project.created','project','default',NULL,'{"name":""}','','','','2026-11-24 22:52:06.164951','0000000000000000000000000000000000000000000000000000000000000000','e38d6d84f3936cfe6623219b4dd056fe4a0ff3dc62d6aa48fa8375c753ccaaf2');
INSERT INTO "audit_entry" VALUES('default',2,'production',1,'cli:root','environment.created','environment','production',NULL,'{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":""}','','','','2026-11-24 22:52:06.164951','e38d6d84f3936cfe6623219b4dd056fe4a0ff3dc62d6aa48fa8375c753ccaaf2','061e654a967e27b9d4d634f83ef72f0361002c9b2d400d073617148d046fb37f');
INSERT INTO "audit_entry" VALUES('default',3,'production',1,'cli:root','segment.created','segment','staff',NULL,'{"condition":{"ends_with":[{"var":"email"},"@shop.example"]},"description":"People of the shop itself"}','','','','2026-11-24 22:52:06.164951','061e654a967e27b9d4d634f83ef72f0361002c9b2d400d073617148d046fb37f','ea4f78cc51c283dfeda497f16df5f51b457069fac6123067cfe203c0375f77e6');
INSERT INTO "audit_entry" VALUES('default',4,'production',1,'cli:root','segment.created','segment','vip',NULL,'{"keys":["carol","dave"],"description":"Customers with a name for it"}','','','','2026-11-24 22:52:06.164951','ea4f78cc51c283dfeda497f16df5f51b457069fac6123067cfe203c0375f77e6','7ca2ae35ac4fc5c62e598393c9421e4f190fbb9455e8a72f9f7dd295afb3eb42');
INSERT INTO "audit_entry" VALUES('default',5,'production',1,'cli:root','flag.created','flag','payments',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"description":"The kill switch. Set enabled to false, and nobody can pay; what requires it goes off with it","kind":"operational","temporary":false,"offVariant":"off","default":"on"}','','','','2026-11-24 22:52:06.164951','7ca2ae35ac4fc5c62e598393c9421e4f190fbb9455e8a72f9f7dd295afb3eb42','146086179a116332c585e071f8001f0b33f28a5ba828403c2db0823d5fbac8bc');
INSERT INTO "audit_entry" VALUES('default',6,'production',1,'cli:root','flag.created','flag','new-checkout',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"description":"A release that is on for one person, for staff, and for a fifth of everybody else","expectedLifetimeDays":60,"owner":"checkout team","offVariant":"off","targets":{"on":["alice"]},"prerequisites":[{"flag":"payments","variants":["on"]}],"rules":[{"id":"staff","condition":{"$ref":"staff"},"serve":"on"},{"id":"everybody","share":{"percent":20,"salt":"new-checkout/everybody/share"},"serve":"on"}],"default":"off"}','','','','2026-11-24 22:52:06.164951','146086179a116332c585e071f8001f0b33f28a5ba828403c2db0823d5fbac8bc','48db14512cd8fa550b155962c187aa985dcdcfeb71d4c588b7694083c565d66d');
INSERT INTO "audit_entry" VALUES('default',7,'production',1,'cli:root','flag.created','flag','checkout-layout',NULL,'{"type":"object","variants":{"three-steps":{"steps":3,"express":false},"one-page":{"steps":1,"express":true,"wallets":["apple","google"]}},"description":"Configuration as an object; only who has the new checkout gets the short one","offVariant":"three-steps","prerequisites":[{"flag":"new-checkout","variants":["on"]}],"default":"one-page"}','','','','2026-11-24 22:52:06.164951','48db14512cd8fa550b155962c187aa985dcdcfeb71d4c588b7694083c565d66d','4b4093f3fefab8d40bc6c597d7b91907c22d5e0b5ff1a719f48abacfade67137');
INSERT INTO "audit_entry" VALUES('default',8,'production',1,'cli:root','flag.created','flag','banner',NULL,'{"type":"string","variants":{"welcome":"Welcome to our shop","bienvenue":"Bienvenue dans notre boutique","willkommen":"Willkommen in unserem Laden"},"description":"A text by country","temporary":false,"rules":[{"id":"french","condition":{"in":[{"var":"country"},["FR","BE"]]},"serve":"bienvenue"},{"id":"german","condition":{"in":[{"var":"country"},["DE","AT"]]},"serve":"willkommen"}],"default":"welcome"}','','','','2026-11-24 22:52:06.164951','4b4093f3fefab8d40bc6c597d7b91907c22d5e0b5ff1a719f48abacfade67137','dec75577b8d1cea4069d745687065cf2b8850e22ac791ead51485a08f15002c6');
INSERT INTO "audit_entry" VALUES('default',9,'production',1,'cli:root','flag.created','flag','button-colour',NULL,'{"type":"string","variants":{"blue":"blue","green":"green"},"description":"An experiment in two halves; the same customer always gets the same half","kind":"experiment","offVariant":"blue","default":{"weights":{"blue":1,"green":1},"salt":"button-colour/default/split"}}','','','','2026-11-24 22:52:06.164951','dec75577b8d1cea4069d745687065cf2b8850e22ac791ead51485a08f15002c6','8c5689f844b49383d2800f84e99f3e210131b828c06621953067dd47a0d3f5d5');
INSERT INTO "audit_entry" VALUES('default',10,'production',1,'cli:root','flag.created','flag','free-shipping-from',NULL,'{"type":"integer","variants":{"regular":50,"low":20,"always":0},"description":"A whole number, an amount in euros","temporary":false,"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"always"},{"id":"app","condition":{"and":[{"==":[{"var":"client.kind"},"app"]},{"sem_ver":[{"var":"client.version"},">=","2.4.0"]}]},"serve":"low"}],"default":"regular"}','','','','2026-11-24 22:52:06.164951','8c5689f844b49383d2800f84e99f3e210131b828c06621953067dd47a0d3f5d5','bd6164877674c1c3cb8385a80fcdca846fda9d3ad27f15a53f21a83fce120125');
INSERT INTO "audit_entry" VALUES('default',11,'production',1,'cli:root','flag.created','flag','discount-rate',NULL,'{"type":"float","variants":{"none":0.0,"regular":0.05,"high":0.125},"description":"A number with a fraction","temporary":false,"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"high"}],"default":"regular"}','','','','2026-11-24 22:52:06.164951','bd6164877674c1c3cb8385a80fcdca846fda9d3ad27f15a53f21a83fce120125','e00fee98b7b4c2082003153383a04fbfb296fef18c0e136091946405a7c5d313');
INSERT INTO "audit_entry" VALUES('default',12,'production',2,'cli:root','flag.updated','flag','payments','{"type":"boolean","variants":{"on":true,"off":false},"description":"The kill switch. Set enabled to false, and nobody can pay; what requires it goes off with it","kind":"operational","temporary":false,"offVariant":"off","default":"on"}','{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false,"enabled":false,"offVariant":"off","default":"on"}','The_bank_is_down','','','2026-11-24 22:52:06.973432','e00fee98b7b4c2082003153383a04fbfb296fef18c0e136091946405a7c5d313','f6b802ef5802b9facc731a643745b9d6cff1a3f24ca8ebe95cbc89c2e47fe5b5');
INSERT INTO "audit_entry" VALUES('default',13,'staging',1,'cli:root','environment.created','environment','staging',NULL,'{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":"demo.flagd.json"}','','','','2026-11-24 22:52:07.787036','f6b802ef5802b9facc731a643745b9d6cff1a3f24ca8ebe95cbc89c2e47fe5b5','33500515ac7124a958ff785bae622d0123f8e2b469e63d1025e5410e07eaadf2');
INSERT INTO "audit_entry" VALUES('default',14,'staging',1,'cli:root','segment.created','segment','adult',NULL,'{"condition":{">=":[{"var":"age"},18]}}','','','','2026-11-24 22:52:07.787036','33500515ac7124a958ff785bae622d0123f8e2b469e63d1025e5410e07eaadf2','61f083dca4920299e05c844596e65e36efabf30c747fed2da90d56b2c8419470');
INSERT INTO "audit_entry" VALUES('default',15,'staging',1,'cli:root','flag.created','flag','new-search',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"default":"off","targeting":{"if":[{"$ref":"adult"},{"fractional":[["on",50],["off",50]]}]}}','','','','2026-11-24 22:52:07.787036','61f083dca4920299e05c844596e65e36efabf30c747fed2da90d56b2c8419470','356b8efa9f385861b1e074f3c389435743327218baad033d50c1a8a0eb11049e');
INSERT INTO "audit_entry" VALUES('other',1,'',0,'cli:root','project.created','project','other',NULL,'{"name":""}','','','','2026-11-24 22:52:08.885266','0000000000000000000000000000000000000000000000000000000000000000','89fff1b555edcad17f19985c699ec5f9d25ed55d915407d65abd1df9f116f590');
INSERT INTO "audit_entry" VALUES('other',2,'qa',1,'cli:root','environment.created','environment','qa',NULL,'{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":""}','','','','2026-11-24 22:52:08.885266','89fff1b555edcad17f19985c699ec5f9d25ed55d915407d65abd1df9f116f590','938897bdfa88e109180b876be01281b791a0c42e9c688765f6f6d7668952554f');
INSERT INTO "audit_entry" VALUES('other',3,'qa',1,'cli:root','flag.created','flag','payments',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false,"enabled":false,"offVariant":"off","default":"on"}','','','','2026-11-24 22:52:08.885266','938897bdfa88e109180b876be01281b791a0c42e9c688765f6f6d7668952554f','7a6a39d43b5d021f9299e6c385da0fc603236e646206fa6c9a92646a66b6316b');
CREATE TABLE environment (
	project TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	name TEXT NOT NULL, 
	bucketing TEXT NOT NULL, 
	critical BOOLEAN NOT NULL, 
	metadata_document TEXT NOT NULL, 
	source TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_environment PRIMARY KEY (project, "key"), 
	CONSTRAINT ck_environment_ck_environment_bucketing CHECK (bucketing IN ('v2', 'v3')), 
	CONSTRAINT ck_environment_ck_environment_revision CHECK (revision >= 0), 
	CONSTRAINT fk_environment_project FOREIGN KEY(project) REFERENCES project ("key")
);
INSERT INTO "environment" VALUES('default','production','','v2',0,'{}','',2,'2026-11-24 22:52:06.164951');
INSERT INTO "environment" VALUES('default','staging','','v2',0,'{}','demo.flagd.json',1,'2026-11-24 22:52:07.787036');
INSERT INTO "environment" VALUES('other','qa','','v2',0,'{}','',1,'2026-11-24 22:52:08.885266');
CREATE TABLE flag (
	project TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	type TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	archived_at DATETIME, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_flag PRIMARY KEY (project, "key"), 
	CONSTRAINT fk_flag_project FOREIGN KEY(project) REFERENCES project ("key")
);
INSERT INTO "flag" VALUES('default','payments','boolean','operational','',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false}');
INSERT INTO "flag" VALUES('default','new-checkout','boolean','release','checkout team',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"description":"A release that is on for one person, for staff, and for a fifth of everybody else","expectedLifetimeDays":60,"owner":"checkout team"}');
INSERT INTO "flag" VALUES('default','checkout-layout','object','release','',NULL,'{"type":"object","variants":{"three-steps":{"steps":3,"express":false},"one-page":{"steps":1,"express":true,"wallets":["apple","google"]}},"description":"Configuration as an object; only who has the new checkout gets the short one"}');
INSERT INTO "flag" VALUES('default','banner','string','release','',NULL,'{"type":"string","variants":{"welcome":"Welcome to our shop","bienvenue":"Bienvenue dans notre boutique","willkommen":"Willkommen in unserem Laden"},"description":"A text by country","temporary":false}');
INSERT INTO "flag" VALUES('default','button-colour','string','experiment','',NULL,'{"type":"string","variants":{"blue":"blue","green":"green"},"description":"An experiment in two halves; the same customer always gets the same half","kind":"experiment"}');
INSERT INTO "flag" VALUES('default','free-shipping-from','integer','release','',NULL,'{"type":"integer","variants":{"regular":50,"low":20,"always":0},"description":"A whole number, an amount in euros","temporary":false}');
INSERT INTO "flag" VALUES('default','discount-rate','float','release','',NULL,'{"type":"float","variants":{"none":0.0,"regular":0.05,"high":0.125},"description":"A number with a fraction","temporary":false}');
INSERT INTO "flag" VALUES('default','new-search','boolean','release','',NULL,'{"type":"boolean","variants":{"on":true,"off":false}}');
INSERT INTO "flag" VALUES('other','payments','boolean','operational','',NULL,'{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false}');
CREATE TABLE flag_config (
	project TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_flag_config PRIMARY KEY (project, environment, "key"), 
	CONSTRAINT fk_flag_config_environment FOREIGN KEY(project, environment) REFERENCES environment (project, "key"), 
	CONSTRAINT fk_flag_config_flag FOREIGN KEY(project, "key") REFERENCES flag (project, "key")
);
INSERT INTO "flag_config" VALUES('default','production','payments','{"enabled":false,"offVariant":"off","default":"on"}');
INSERT INTO "flag_config" VALUES('default','production','new-checkout','{"offVariant":"off","targets":{"on":["alice"]},"prerequisites":[{"flag":"payments","variants":["on"]}],"rules":[{"id":"staff","condition":{"$ref":"staff"},"serve":"on"},{"id":"everybody","share":{"percent":20,"salt":"new-checkout/everybody/share"},"serve":"on"}],"default":"off"}');
INSERT INTO "flag_config" VALUES('default','production','checkout-layout','{"offVariant":"three-steps","prerequisites":[{"flag":"new-checkout","variants":["on"]}],"default":"one-page"}');
INSERT INTO "flag_config" VALUES('default','production','banner','{"rules":[{"id":"french","condition":{"in":[{"var":"country"},["FR","BE"]]},"serve":"bienvenue"},{"id":"german","condition":{"in":[{"var":"country"},["DE","AT"]]},"serve":"willkommen"}],"default":"welcome"}');
INSERT INTO "flag_config" VALUES('default','production','button-colour','{"offVariant":"blue","default":{"weights":{"blue":1,"green":1},"salt":"button-colour/default/split"}}');
INSERT INTO "flag_config" VALUES('default','production','free-shipping-from','{"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"always"},{"id":"app","condition":{"and":[{"==":[{"var":"client.kind"},"app"]},{"sem_ver":[{"var":"client.version"},">=","2.4.0"]}]},"serve":"low"}],"default":"regular"}');
INSERT INTO "flag_config" VALUES('default','production','discount-rate','{"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"high"}],"default":"regular"}');
INSERT INTO "flag_config" VALUES('default','staging','new-search','{"default":"off","targeting":{"if":[{"$ref":"adult"},{"fractional":[["on",50],["off",50]]}]}}');
INSERT INTO "flag_config" VALUES('other','qa','payments','{"enabled":false,"offVariant":"off","default":"on"}');
CREATE TABLE outbox (
	project TEXT NOT NULL, 
	sequence INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	type TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_outbox PRIMARY KEY (project, sequence), 
	CONSTRAINT fk_outbox_project FOREIGN KEY(project) REFERENCES project ("key")
);
INSERT INTO "outbox" VALUES('default',1,'evt_16ee3802694441a4a7a19ffeea53dd5b','','project.created','{"project":"default","environment":"","revision":0,"kind":"project","key":"default","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"name":""}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',2,'evt_0a0f5cc0582c4ddda55bc6e35f0e0889','production','environment.created','{"project":"default","environment":"production","revision":1,"kind":"environment","key":"production","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":""}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',3,'evt_bda41868bc404e8d85641642464640f6','production','segment.created','{"project":"default","environment":"production","revision":1,"kind":"segment","key":"staff","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"condition":{"ends_with":[{"var":"email"},"@shop.example"]},"description":"People of the shop itself"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',4,'evt_281aade3b4e9499ebd139d631c1f5bae','production','segment.created','{"project":"default","environment":"production","revision":1,"kind":"segment","key":"vip","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"keys":["carol","dave"],"description":"Customers with a name for it"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',5,'evt_9532a2dac1b5407ab5716619db664e92','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"payments","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"boolean","variants":{"on":true,"off":false},"description":"The kill switch. Set enabled to false, and nobody can pay; what requires it goes off with it","kind":"operational","temporary":false,"offVariant":"off","default":"on"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',6,'evt_e8a488ae525844fe9bb42e7a969357d9','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"new-checkout","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"boolean","variants":{"on":true,"off":false},"description":"A release that is on for one person, for staff, and for a fifth of everybody else","expectedLifetimeDays":60,"owner":"checkout team","offVariant":"off","targets":{"on":["alice"]},"prerequisites":[{"flag":"payments","variants":["on"]}],"rules":[{"id":"staff","condition":{"$ref":"staff"},"serve":"on"},{"id":"everybody","share":{"percent":20,"salt":"new-checkout/everybody/share"},"serve":"on"}],"default":"off"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',7,'evt_c5ef1b720cea447090f9765294766880','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"checkout-layout","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"object","variants":{"three-steps":{"steps":3,"express":false},"one-page":{"steps":1,"express":true,"wallets":["apple","google"]}},"description":"Configuration as an object; only who has the new checkout gets the short one","offVariant":"three-steps","prerequisites":[{"flag":"new-checkout","variants":["on"]}],"default":"one-page"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',8,'evt_4829afe4bcc949e4bfb03cb483411e8d','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"banner","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"string","variants":{"welcome":"Welcome to our shop","bienvenue":"Bienvenue dans notre boutique","willkommen":"Willkommen in unserem Laden"},"description":"A text by country","temporary":false,"rules":[{"id":"french","condition":{"in":[{"var":"country"},["FR","BE"]]},"serve":"bienvenue"},{"id":"german","condition":{"in":[{"var":"country"},["DE","AT"]]},"serve":"willkommen"}],"default":"welcome"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',9,'evt_3cd78a4795544b458ad44b612983df97','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"button-colour","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"string","variants":{"blue":"blue","green":"green"},"description":"An experiment in two halves; the same customer always gets the same half","kind":"experiment","offVariant":"blue","default":{"weights":{"blue":1,"green":1},"salt":"button-colour/default/split"}}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',10,'evt_71720393983e404382d3ca8a1b45c065','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"free-shipping-from","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"integer","variants":{"regular":50,"low":20,"always":0},"description":"A whole number, an amount in euros","temporary":false,"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"always"},{"id":"app","condition":{"and":[{"==":[{"var":"client.kind"},"app"]},{"sem_ver":[{"var":"client.version"},">=","2.4.0"]}]},"serve":"low"}],"default":"regular"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',11,'evt_a063a38fecd940259a0144a84cc64517','production','flag.created','{"project":"default","environment":"production","revision":1,"kind":"flag","key":"discount-rate","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"float","variants":{"none":0.0,"regular":0.05,"high":0.125},"description":"A number with a fraction","temporary":false,"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"high"}],"default":"regular"}}','2026-11-24 22:52:06.164951');
INSERT INTO "outbox" VALUES('default',12,'evt_2fdad43d2a5944549ff7afce99e4326e','production','flag.updated','{"project":"default","environment":"production","revision":2,"kind":"flag","key":"payments","actor":"cli:root","reason":"The_bank_is_down","cause":"","requestId":"","before":{"type":"boolean","variants":{"on":true,"off":false},"description":"The kill switch. Set enabled to false, and nobody can pay; what requires it goes off with it","kind":"operational","temporary":false,"offVariant":"off","default":"on"},"after":{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false,"enabled":false,"offVariant":"off","default":"on"}}','2026-11-24 22:52:06.973432');
INSERT INTO "outbox" VALUES('default',13,'evt_6615f31a9e124408b405ef2b3d160712','staging','environment.created','{"project":"default","environment":"staging","revision":1,"kind":"environment","key":"staging","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":"demo.flagd.json"}}','2026-11-24 22:52:07.787036');
INSERT INTO "outbox" VALUES('default',14,'evt_114c6e8597e74d4cb64f516b740ffca1','staging','segment.created','{"project":"default","environment":"staging","revision":1,"kind":"segment","key":"adult","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"condition":{">=":[{"var":"age"},18]}}}','2026-11-24 22:52:07.787036');
INSERT INTO "outbox" VALUES('default',15,'evt_bab45770ba804c80a3984a12a67252b9','staging','flag.created','{"project":"default","environment":"staging","revision":1,"kind":"flag","key":"new-search","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"boolean","variants":{"on":true,"off":false},"default":"off","targeting":{"if":[{"$ref":"adult"},{"fractional":[["on",50],["off",50]]}]}}}','2026-11-24 22:52:07.787036');
INSERT INTO "outbox" VALUES('other',1,'evt_b490079f2c2447848036790e1b50a944','','project.created','{"project":"other","environment":"","revision":0,"kind":"project","key":"other","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"name":""}}','2026-11-24 22:52:08.885266');
INSERT INTO "outbox" VALUES('other',2,'evt_089b21e8074e4069b22394d81a26a022','qa','environment.created','{"project":"other","environment":"qa","revision":1,"kind":"environment","key":"qa","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":""}}','2026-11-24 22:52:08.885266');
INSERT INTO "outbox" VALUES('other',3,'evt_f024997996694855ac8692aaced341fe','qa','flag.created','{"project":"other","environment":"qa","revision":1,"kind":"flag","key":"payments","actor":"cli:root","reason":"","cause":"","requestId":"","before":null,"after":{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false,"enabled":false,"offVariant":"off","default":"on"}}','2026-11-24 22:52:08.885266');
CREATE TABLE project (
	"key" TEXT NOT NULL, 
	name TEXT NOT NULL, 
	event_sequence INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_project PRIMARY KEY ("key")
);
INSERT INTO "project" VALUES('default','',15,'2026-11-24 22:52:06.164951');
INSERT INTO "project" VALUES('other','',3,'2026-11-24 22:52:08.885266');
CREATE TABLE reference (
	project TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	target_kind TEXT NOT NULL, 
	target_key TEXT NOT NULL, 
	CONSTRAINT pk_reference PRIMARY KEY (project, environment, kind, "key", target_kind, target_key), 
	CONSTRAINT fk_reference_environment FOREIGN KEY(project, environment) REFERENCES environment (project, "key")
)
 WITHOUT ROWID

;
INSERT INTO "reference" VALUES('default','production','flag','checkout-layout','flag','new-checkout');
INSERT INTO "reference" VALUES('default','production','flag','new-checkout','flag','payments');
INSERT INTO "reference" VALUES('default','production','flag','new-checkout','segment','staff');
INSERT INTO "reference" VALUES('default','production','flag','discount-rate','segment','vip');
INSERT INTO "reference" VALUES('default','production','flag','free-shipping-from','segment','vip');
INSERT INTO "reference" VALUES('default','staging','flag','new-search','segment','adult');
CREATE TABLE request (
	project TEXT NOT NULL, 
	id TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	unchanged BOOLEAN NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_request PRIMARY KEY (project, id), 
	CONSTRAINT fk_request_project FOREIGN KEY(project) REFERENCES project ("key")
);
CREATE TABLE revision (
	project TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	document TEXT, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_revision PRIMARY KEY (project, environment, revision, kind, "key"), 
	CONSTRAINT fk_revision_environment FOREIGN KEY(project, environment) REFERENCES environment (project, "key")
);
INSERT INTO "revision" VALUES('default','production',1,'environment','production','{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":""}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'segment','staff','{"condition":{"ends_with":[{"var":"email"},"@shop.example"]},"description":"People of the shop itself"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'segment','vip','{"keys":["carol","dave"],"description":"Customers with a name for it"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','payments','{"type":"boolean","variants":{"on":true,"off":false},"description":"The kill switch. Set enabled to false, and nobody can pay; what requires it goes off with it","kind":"operational","temporary":false,"offVariant":"off","default":"on"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','new-checkout','{"type":"boolean","variants":{"on":true,"off":false},"description":"A release that is on for one person, for staff, and for a fifth of everybody else","expectedLifetimeDays":60,"owner":"checkout team","offVariant":"off","targets":{"on":["alice"]},"prerequisites":[{"flag":"payments","variants":["on"]}],"rules":[{"id":"staff","condition":{"$ref":"staff"},"serve":"on"},{"id":"everybody","share":{"percent":20,"salt":"new-checkout/everybody/share"},"serve":"on"}],"default":"off"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','checkout-layout','{"type":"object","variants":{"three-steps":{"steps":3,"express":false},"one-page":{"steps":1,"express":true,"wallets":["apple","google"]}},"description":"Configuration as an object; only who has the new checkout gets the short one","offVariant":"three-steps","prerequisites":[{"flag":"new-checkout","variants":["on"]}],"default":"one-page"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','banner','{"type":"string","variants":{"welcome":"Welcome to our shop","bienvenue":"Bienvenue dans notre boutique","willkommen":"Willkommen in unserem Laden"},"description":"A text by country","temporary":false,"rules":[{"id":"french","condition":{"in":[{"var":"country"},["FR","BE"]]},"serve":"bienvenue"},{"id":"german","condition":{"in":[{"var":"country"},["DE","AT"]]},"serve":"willkommen"}],"default":"welcome"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','button-colour','{"type":"string","variants":{"blue":"blue","green":"green"},"description":"An experiment in two halves; the same customer always gets the same half","kind":"experiment","offVariant":"blue","default":{"weights":{"blue":1,"green":1},"salt":"button-colour/default/split"}}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','free-shipping-from','{"type":"integer","variants":{"regular":50,"low":20,"always":0},"description":"A whole number, an amount in euros","temporary":false,"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"always"},{"id":"app","condition":{"and":[{"==":[{"var":"client.kind"},"app"]},{"sem_ver":[{"var":"client.version"},">=","2.4.0"]}]},"serve":"low"}],"default":"regular"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',1,'flag','discount-rate','{"type":"float","variants":{"none":0.0,"regular":0.05,"high":0.125},"description":"A number with a fraction","temporary":false,"rules":[{"id":"vip","condition":{"$ref":"vip"},"serve":"high"}],"default":"regular"}','2026-11-24 22:52:06.164951');
INSERT INTO "revision" VALUES('default','production',2,'flag','payments','{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false,"enabled":false,"offVariant":"off","default":"on"}','2026-11-24 22:52:06.973432');
INSERT INTO "revision" VALUES('default','staging',1,'environment','staging','{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":"demo.flagd.json"}','2026-11-24 22:52:07.787036');
INSERT INTO "revision" VALUES('default','staging',1,'segment','adult','{"condition":{">=":[{"var":"age"},18]}}','2026-11-24 22:52:07.787036');
INSERT INTO "revision" VALUES('default','staging',1,'flag','new-search','{"type":"boolean","variants":{"on":true,"off":false},"default":"off","targeting":{"if":[{"$ref":"adult"},{"fractional":[["on",50],["off",50]]}]}}','2026-11-24 22:52:07.787036');
INSERT INTO "revision" VALUES('other','qa',1,'environment','qa','{"name":"","bucketing":"v2","critical":false,"metadata":{},"source":""}','2026-11-24 22:52:08.885266');
INSERT INTO "revision" VALUES('other','qa',1,'flag','payments','{"type":"boolean","variants":{"on":true,"off":false},"kind":"operational","temporary":false,"enabled":false,"offVariant":"off","default":"on"}','2026-11-24 22:52:08.885266');
CREATE TABLE segment (
	project TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_segment PRIMARY KEY (project, environment, "key"), 
	CONSTRAINT fk_segment_environment FOREIGN KEY(project, environment) REFERENCES environment (project, "key")
);
INSERT INTO "segment" VALUES('default','production','staff','{"condition":{"ends_with":[{"var":"email"},"@shop.example"]},"description":"People of the shop itself"}');
INSERT INTO "segment" VALUES('default','production','vip','{"keys":["carol","dave"],"description":"Customers with a name for it"}');
INSERT INTO "segment" VALUES('default','staging','adult','{"condition":{">=":[{"var":"age"},18]}}');
CREATE INDEX ix_audit_entry_request ON audit_entry (project, request_id);
CREATE INDEX ix_audit_entry_subject ON audit_entry (project, environment, subject_kind, subject_key);
CREATE INDEX ix_flag_archived_at ON flag (project, archived_at);
CREATE INDEX ix_flag_kind ON flag (project, kind);
CREATE INDEX ix_flag_owner ON flag (project, owner);
CREATE INDEX ix_flag_type ON flag (project, type);
CREATE UNIQUE INDEX ix_outbox_id ON outbox (id);
CREATE INDEX ix_flag_config_key ON flag_config (project, "key");
CREATE INDEX ix_reference_target ON reference (project, environment, target_kind, target_key);
CREATE INDEX ix_revision_history ON revision (project, environment, kind, "key", revision);
CREATE TRIGGER audit_entry_refuses_update BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, 'rows of audit_entry are never changed or deleted'); END;
CREATE TRIGGER audit_entry_refuses_delete BEFORE DELETE ON audit_entry BEGIN SELECT RAISE(ABORT, 'rows of audit_entry are never changed or deleted'); END;
CREATE TRIGGER revision_refuses_update BEFORE UPDATE ON revision BEGIN SELECT RAISE(ABORT, 'rows of revision are never changed or deleted'); END;
CREATE TRIGGER revision_refuses_delete BEFORE DELETE ON revision BEGIN SELECT RAISE(ABORT, 'rows of revision are never changed or deleted'); END;
COMMIT;
