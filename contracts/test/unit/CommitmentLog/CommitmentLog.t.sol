// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CommitmentLogAnchor} from "./anchor.t.sol";
import {CommitmentLogMature} from "./mature.t.sol";
import {CommitmentLogAuditRate} from "./auditRate.t.sol";
import {CommitmentLogResetRecord} from "./resetRecord.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract CommitmentLogTest is CommitmentLogAnchor, CommitmentLogMature, CommitmentLogAuditRate, CommitmentLogResetRecord {}
