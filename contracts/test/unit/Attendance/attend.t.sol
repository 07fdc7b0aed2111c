// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract AttendanceAttend is Network {
    bytes32 internal attendedId;

    function _vote(uint256 judge, IDisputes.Outcome outcome) internal view returns (bytes memory) {
        return Bls.sign(judge + 1, _ballot(attendedId, outcome));
    }

    function _attend(uint256 judge, IDisputes.Outcome outcome) internal {
        attendance.attend(attendedId, judge, outcome, _vote(judge, outcome));
    }

    function test_attend__a_vote__is_entered_by_anybody_and_in_its_round_alone() public {
        _joinAll();
        (, attendedId) = _disputed(10 ether);
        bytes memory vote = _vote(1, IDisputes.Outcome.Guilty);
        vm.expectEmit();
        emit IAttendance.Attended(1, 1, judges[1], IDisputes.Round.Committee, IDisputes.Outcome.Guilty);
        attendance.attend(attendedId, 1, IDisputes.Outcome.Guilty, vote);
        assertEq(attendance.present(1, IDisputes.Round.Committee), 2);
        skip(121);
        disputes.escalate(attendedId);
        assertEq(attendance.present(1, IDisputes.Round.FullSet), 0);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.BadVote.selector, 1));
        attendance.attend(attendedId, 1, IDisputes.Outcome.Guilty, vote);
    }

    function test_attend__another_seat_signature_or_no_outcome__reverts() public {
        _joinAll();
        (, attendedId) = _disputed(10 ether);
        bytes memory vote = _vote(1, IDisputes.Outcome.Guilty);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.BadVote.selector, 2));
        attendance.attend(attendedId, 2, IDisputes.Outcome.Guilty, vote);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.BadVote.selector, 1));
        attendance.attend(attendedId, 1, IDisputes.Outcome.Innocent, vote);
        bytes memory none = _vote(1, IDisputes.Outcome.None);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.BadVote.selector, 1));
        attendance.attend(attendedId, 1, IDisputes.Outcome.None, none);
        // The challenger does not sit, and there is no fourth judge.
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotSeated.selector, 0));
        attendance.attend(attendedId, 0, IDisputes.Outcome.Guilty, vote);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotSeated.selector, 3));
        attendance.attend(attendedId, 3, IDisputes.Outcome.Guilty, vote);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotSeated.selector, 1 << 112));
        attendance.attend(attendedId, 1 << 112, IDisputes.Outcome.Guilty, vote);
    }

    function test_attend__unknown_late_or_judged__reverts() public {
        _joinAll();
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotOpen.selector, bytes32("x")));
        attendance.attend("x", 1, IDisputes.Outcome.Guilty, "");
        (, attendedId) = _disputed(10 ether);
        bytes memory vote = _vote(1, IDisputes.Outcome.Guilty);
        uint256 snapshot = vm.snapshotState();
        skip(121);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotOpen.selector, attendedId));
        attendance.attend(attendedId, 1, IDisputes.Outcome.Guilty, vote);
        vm.revertToState(snapshot);
        _verdict(attendedId, IDisputes.Outcome.Guilty);
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotOpen.selector, attendedId));
        attendance.attend(attendedId, 1, IDisputes.Outcome.Guilty, vote);
    }
}
