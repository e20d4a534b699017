-- Orthanc gives images to a segmenter only after anomap has passed them.
--
-- Images come to Orthanc and go nowhere by themselves. When a report of anomap arrives and its gate (code ANM-G1) answers
-- "pass" (ANM-G2), the series it is about is sent to SEGMENTER. Nothing else ever sends it: review, reject, uncalibrated, a
-- node that fails or never answers leave the images where they are.
--
-- A pass holds for exactly the images that the report names. A series that has more by now (late slices), or fewer, stays;
-- the node reports again on the whole. Only objects that the node itself has stored count as reports, so list in
-- DicomModalities whom Orthanc shall believe (DicomCheckModalityHost), and put a login before DICOMweb.

local SEGMENTER = 'segmenter'   -- its name among the DicomModalities
local TITLE = 'ANOMAP'          -- the AE title that the node stores with
local SCHEME, GATE, PASS = '99ANOMAP', 'ANM-G1', 'ANM-G2'
local SEGMENTATION = '1.2.840.10008.5.1.4.1.1.66.4'

local function Get(path)
  return ParseJson(RestApiGet(path))
end

local function FromNode(origin)
  if origin['RequestOrigin'] == 'DicomProtocol' then
    return origin['RemoteAet'] == TITLE
  end
  return origin['RequestOrigin'] == 'Plugins' -- STOW-RS
end

local function Code(item, keyword)
  local codes = item[keyword]
  if codes and codes[1] and codes[1]['CodingSchemeDesignator'] == SCHEME then
    return codes[1]['CodeValue']
  end
  return ''
end

-- How many answers to the gate a report holds, and how many of them are "pass".
local function Answers(items)
  local all, passed = 0, 0
  for _, item in ipairs(items or {}) do
    if Code(item, 'ConceptNameCodeSequence') == GATE then
      all = all + 1
      if Code(item, 'ConceptCodeSequence') == PASS then
        passed = passed + 1
      end
    end
    local more, well = Answers(item['ContentSequence'])
    all, passed = all + more, passed + well
  end
  return all, passed
end

-- The images that a report is about: series UID -> set of SOP Instance UIDs, and their number.
local function Evidence(report)
  local found = {}
  for _, study in ipairs(report['CurrentRequestedProcedureEvidenceSequence'] or {}) do
    for _, series in ipairs(study['ReferencedSeriesSequence'] or {}) do
      for _, image in ipairs(series['ReferencedSOPSequence'] or {}) do
        if image['ReferencedSOPClassUID'] ~= SEGMENTATION then
          local uid = series['SeriesInstanceUID']
          found[uid] = found[uid] or { images = {}, count = 0 }
          found[uid].images[image['ReferencedSOPInstanceUID']] = true
          found[uid].count = found[uid].count + 1
        end
      end
    end
  end
  return found
end

-- The series in Orthanc if it holds these images and no others.
local function Whole(uid, evidence)
  for _, found in ipairs(ParseJson(RestApiPost('/tools/lookup', uid))) do
    if found['Type'] == 'Series' then
      local instances = Get('/series/' .. found['ID'] .. '/instances')
      for _, instance in ipairs(instances) do
        if not evidence.images[instance['MainDicomTags']['SOPInstanceUID']] then
          return nil
        end
      end
      if #instances == evidence.count then
        return found['ID']
      end
    end
  end
  return nil
end

function OnStoredInstance(id, tags, metadata, origin)
  if tags['Modality'] ~= 'SR' or tags['Manufacturer'] ~= 'anomap' or not FromNode(origin) then
    return
  end
  local report = Get('/instances/' .. id .. '/simplified-tags')
  local all, passed = Answers(report['ContentSequence'])
  if all == 0 or passed < all then
    return
  end
  for uid, evidence in pairs(Evidence(report)) do
    local series = Whole(uid, evidence)
    if series then
      local order = { Resources = { series }, Asynchronous = true, Permissive = false }
      RestApiPost('/modalities/' .. SEGMENTER .. '/store', DumpJson(order, true))
      print('anomap: passed, sent to ' .. SEGMENTER)
    else
      print('anomap: passed, but other images are here than were looked at; not sent')
    end
  end
end
